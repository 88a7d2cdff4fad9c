package dev

import (
	"strings"
)

// quote makes one word of a POSIX shell.
func quote(s string) string {
	if s != "" && strings.IndexFunc(s, needsQuotes) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func needsQuotes(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("-_./:@%+,", r)
}

// variable is one line of DIR/env.
type variable struct{ name, value string }

// What else could lead a plain psql or an offline command to another server, or to another way of logging in.
var unsetForUser = []string{
	"PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGPASSWORD", "PGPASSFILE", "PGOPTIONS", "PGSSLMODE", "PGREQUIREAUTH",
	"PGCHANNELBINDING", "PGSSLNEGOTIATION", "PGGSSENCMODE", "PGTARGETSESSIONATTRS", "PGLOADBALANCEHOSTS", "PGCLIENTENCODING",
	"VAULT_TOKEN_FILE", "VAULT_DATABASE_URL_FILE", "VAULT_PG_HOSTS", "VAULT_PG_PORT", "VAULT_PG_USER", "VAULT_PG_PASSWORD",
	"VAULT_PG_PASSWORD_FILE", "VAULT_PG_DBNAME", "VAULT_PG_SSLMODE",
}

// script writes DIR/env: a file for a POSIX shell to source.
func script(exports []variable, unset []string) []byte {
	var b strings.Builder
	b.WriteString("# Written by `sealkeep dev` at every start, for a shell to source. It holds an admin token.\n")
	b.WriteString("unset " + strings.Join(unset, " ") + "\n")
	for _, v := range exports {
		b.WriteString("export " + v.name + "=" + quote(v.value) + "\n")
	}
	return []byte(b.String())
}
