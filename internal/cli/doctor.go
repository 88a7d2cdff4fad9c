package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/boot"
	"github.com/sealkeep/sealkeep/internal/vault"
)

func (a *app) doctorCommand() *cobra.Command {
	var againstAudit, asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the whole vault: schema, rights, keys, and every row",
		Long: `Check that the database is as the vault wrote it: the schema, row security, policies, triggers and constraints, the
keyring, the grants' snapshot, the MAC of every secret, version and deleted secret, and the audit partitions ahead. One
line is printed for each finding. Nothing is changed.

--against-audit also verifies the audit trail and compares the tables with what it tells, which finds tables that were
put back to an older state, every MAC of which is true. Tables and trail that were put back together are not found by
it: nothing in the database tells, only what was kept or shipped outside.

Versions and roots that lack a wrapping of the recovery key, or are under another master key than the one in use, are
told in a note. They are no finding: they are as the vault wrote them, and rotators and keyring fill mend them.

Exit status: 0 nothing was found, 1 findings, 2 could not check.

` + offlineHelp,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return unchecked(a.examine(cmd.Context(), againstAudit, asJSON))
		},
	}
	cmd.Flags().BoolVar(&againstAudit, "against-audit", false, "verify the audit trail, and compare the tables with it")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) examine(ctx context.Context, againstAudit, asJSON bool) error {
	w, err := a.openUnchecked(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	report, err := vault.Examine(ctx, w.database, w.keeper, vault.ExamineOptions{
		AgainstAudit: againstAudit, Rewrapper: boot.Rewrapper(w.keeper), Progress: a.progress(),
	})
	if err != nil {
		return offlineProblem(ctx, err)
	}
	if asJSON {
		err = marshalJSON(a.Stdout, examinationOf(report))
	} else {
		err = a.printExamination(report)
	}
	if err == nil && report.Found > 0 {
		err = &statusError{status: statusNo}
	}
	return err
}

func (a *app) printExamination(r *vault.Examination) error {
	if _, ok := terminal(a.Stderr); ok && r.Trail != nil {
		fmt.Fprint(a.Stderr, "\r")
	}
	for _, f := range r.Findings {
		fmt.Fprintln(a.Stdout, "found: "+f.Area+": "+printable(f.What))
	}
	if more := r.Found - int64(len(r.Findings)); more > 0 {
		fmt.Fprintf(a.Stdout, "and %d more\n", more)
	}
	for _, note := range r.Notes {
		fmt.Fprintln(a.Stdout, "note: "+printable(note))
	}
	fmt.Fprintf(a.Stdout, "checked: %s with %s, %s; %s with %s, %s\n",
		counted(r.Secrets, "secret"), counted(r.Versions, "version"), counted(r.Deleted, "deleted secret"),
		counted(r.Roles, "role"), counted(r.Permissions, "permission"), counted(r.Tokens, "token"))
	if t := r.Trail; t != nil {
		untold := ""
		if r.Untold > 0 {
			untold = fmt.Sprintf("; they don't tell the last change of %d of the secrets, roles and tokens", r.Untold)
		}
		fmt.Fprintf(a.Stdout, "compared with %s in %s%s\n", counted(t.Records, "record"), counted(t.Streams, "stream"), untold)
	}
	var err error
	if r.Found == 0 {
		_, err = fmt.Fprintln(a.Stdout, "nothing was found")
	} else {
		_, err = fmt.Fprintf(a.Stdout, "FINDINGS: %d\n", r.Found)
	}
	return err
}

// counted is a number with what it counts, which takes an s for all but one.
func counted(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// examination is a report as JSON.
type examination struct {
	Findings []examinationFinding `json:"findings"`
	Found    int64                `json:"findings_found"` // more than are listed when some were left out
	Notes    []string             `json:"notes"`
	Secrets  int64                `json:"secrets"`
	Versions int64                `json:"versions"`
	Deleted  int64                `json:"deleted_secrets"`
	Roles    int64                `json:"roles"`
	Rules    int64                `json:"permissions"`
	Tokens   int64                `json:"tokens"`
	Records  *int64               `json:"audit_records"` // null unless the trail was compared
	Dropped  *int64               `json:"audit_records_dropped"`
	Untold   int64                `json:"untold"`
}

type examinationFinding struct {
	Area string `json:"area"`
	What string `json:"what"`
}

func examinationOf(r *vault.Examination) examination {
	e := examination{
		Findings: []examinationFinding{}, Found: r.Found, Notes: append([]string{}, r.Notes...), Secrets: r.Secrets, Versions: r.Versions,
		Deleted: r.Deleted, Roles: r.Roles, Rules: r.Permissions, Tokens: r.Tokens, Untold: r.Untold,
	}
	for _, f := range r.Findings {
		e.Findings = append(e.Findings, examinationFinding(f))
	}
	if r.Trail != nil {
		e.Records, e.Dropped = &r.Trail.Records, &r.Trail.Dropped
	}
	return e
}
