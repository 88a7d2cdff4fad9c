package dev

import (
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"

	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/pgserver"
)

// demoName is the secret of the printed session, which removes it in the end, so that it can be pasted again.
const demoName = "demo/greeting"

// welcome says where everything is and prints a session to paste into another shell.
func (r *run) welcome(base string, api *boot.API) {
	fmt.Fprintf(r.Out, `
Sealkeep is ready. This is for development, not for production: one machine, and the master key lies beside the data.

  API          %s
  telemetry    http://%s/metrics (API), http://%s/metrics (rotator)
  data         %s
  logs         %s, %s, %s
  admin token  %s

Paste this into another terminal:

`, base, r.api.at.Telemetry, r.rotator.at.Telemetry, r.folder.path, r.api.log, r.rotator.log, r.server.LogFile(), r.folder.file(tokenFile))
	for _, line := range r.session(api) {
		fmt.Fprintln(r.Out, "  "+line)
	}
	fmt.Fprintln(r.Out)
	if problem := readProblem(api); problem != "" {
		fmt.Fprintln(r.Out, problem)
	}
	fmt.Fprintln(r.Out, "Ctrl-C stops it; the data stays for the next start.")
}

// session is a tour in a POSIX shell.
func (r *run) session(api *boot.API) []string {
	program := quote(r.Program)
	curl := `curl -s "$VAULT_ADDR/v1/secrets/` + demoName + `"; echo`
	if api.ReadAuth == "ip+token" {
		curl = `curl -s -H "Authorization: Bearer $VAULT_TOKEN" "$VAULT_ADDR/v1/secrets/` + demoName + `"; echo`
	}
	lines := []string{
		". " + quote(r.folder.file("env")),
		"printf %s 'hello from the vault' | " + program + " secret create " + demoName,
		curl,
		program + " secret get " + demoName,
		"printf %s 'hello from the vault' | " + program + " secret verify " + demoName,
	}
	if psql := psqlCommand(r.binaries, r.Environ["PATH"]); psql != "" {
		lines = append(lines, psql+` -P pager=off -c "SELECT s.name, v.version, v.state, left(encode(v.ciphertext, 'hex'), 40) AS ciphertext `+
			`FROM vault.secrets s JOIN vault.secret_versions v ON v.secret_id = s.id"`)
	}
	return append(
		lines,
		program+" audit tail -n 5",
		program+" audit verify --database",
		program+" secret rm --yes "+demoName,
	)
}

// psqlCommand is how this machine runs psql, or "" where there is none.
func psqlCommand(b pgserver.Binaries, path string) string {
	for _, dir := range filepath.SplitList(path) {
		if _, err := exec.LookPath(filepath.Join(dir, "psql")); err == nil && filepath.IsAbs(dir) {
			return "psql"
		}
	}
	own := filepath.Join(b.Dir, "psql")
	if _, err := exec.LookPath(own); err != nil {
		return ""
	}
	if b.LibraryPath != "" {
		return "LD_LIBRARY_PATH=" + quote(b.LibraryPath) + " " + quote(own)
	}
	return quote(own)
}

// readProblem says why the session's reads will be refused, where the user's own settings make it so.
func readProblem(api *boot.API) string {
	if api.Allowlist.Contains(netip.AddrFrom4([4]byte{127, 0, 0, 1})) {
		return ""
	}
	return "VAULT_ALLOWED_IPS is set and leaves out 127.0.0.1, so reads from this machine are refused."
}
