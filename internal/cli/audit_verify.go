package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/audit"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/vault"
)

func (a *app) auditCommand() *cobra.Command {
	flags := new(clientFlags)
	tail := a.auditTailCommand(flags)
	flags.add(tail)
	return a.group(
		&cobra.Command{Use: "audit", Short: "Read the audit trail, and check it"},
		tail,
		a.auditVerifyCommand(),
	)
}

func (a *app) auditVerifyCommand() *cobra.Command {
	var database, asJSON bool
	cmd := &cobra.Command{
		Use:   "verify --database",
		Short: "Check every record of the audit trail",
		Long: `Check every chain of the audit trail in the database, and name the first bad record of each.
Exit status: 0 all records are accounted for, 1 tampering, 2 could not check.

` + offlineHelp,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !database {
				return usage("say what to check: --database")
			}
			return unchecked(a.verifyDatabase(cmd.Context(), asJSON))
		},
	}
	cmd.Flags().BoolVar(&database, "database", false, "check the records in the database")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) verifyDatabase(ctx context.Context, asJSON bool) error {
	w, err := a.openWorkshop(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	id, err := w.identity(ctx)
	if err != nil {
		return err
	}
	keys, err := vault.OpenKeyring(ctx, w.database, w.keeper, id, integrity.PurposeAudit)
	if err != nil {
		return offlineProblem(ctx, err)
	}
	defer keys.Close()
	report, err := audit.Verify(ctx, w.database, keys, id, a.progress())
	if err != nil {
		return offlineProblem(ctx, err)
	}
	if asJSON {
		err = a.printReportJSON(report)
	} else {
		err = a.printReport(report)
	}
	if err == nil && len(report.Problems) > 0 {
		err = &statusError{status: statusNo}
	}
	return err
}

// progress shows how far verification is, on a terminal.
func (a *app) progress() func(int64) {
	if _, ok := terminal(a.Stderr); !ok {
		return nil
	}
	return func(records int64) { fmt.Fprintf(a.Stderr, "\r%d records", records) }
}

func (a *app) printReport(r *audit.Report) error {
	if _, ok := terminal(a.Stderr); ok {
		fmt.Fprint(a.Stderr, "\r")
	}
	fmt.Fprintf(a.Stdout, "%d records in %d streams checked, %d of them open\n", r.Records, r.Streams, r.Open)
	for _, note := range r.Notes {
		fmt.Fprintln(a.Stdout, "note: "+printable(note))
	}
	if len(r.Problems) == 0 {
		_, err := fmt.Fprintln(a.Stdout, "every record is accounted for")
		return err
	}
	for i, p := range r.Problems {
		begin := "bad: "
		if i == 0 {
			begin = "first bad record: "
		}
		fmt.Fprintln(a.Stdout, begin+placeOf(p)+": "+printable(p.What))
	}
	if more := r.Found - int64(len(r.Problems)); more > 0 {
		fmt.Fprintf(a.Stdout, "and %d more\n", more)
	}
	_, err := fmt.Fprintln(a.Stdout, "TAMPERING: the audit trail is not as it was written")
	return err
}

func placeOf(p audit.Problem) string {
	text := "stream " + p.StreamID.String()
	if p.Seq > 0 {
		text += " seq " + strconv.FormatInt(p.Seq, 10)
	}
	return text
}

// verification is a report as JSON.
type verification struct {
	Intact      bool                  `json:"intact"`
	Records     int64                 `json:"records"`
	Streams     int64                 `json:"streams"`
	OpenStreams int64                 `json:"open_streams"`
	Problems    []verificationProblem `json:"problems"`
	Found       int64                 `json:"problems_found"` // more than are listed when some were left out
	Notes       []string              `json:"notes"`
}

type verificationProblem struct {
	StreamID uuid.UUID `json:"stream_id"`
	Seq      int64     `json:"seq"` // 0 for the stream itself
	What     string    `json:"what"`
}

func (a *app) printReportJSON(r *audit.Report) error {
	v := verification{
		Intact: len(r.Problems) == 0, Records: r.Records, Streams: r.Streams, OpenStreams: r.Open,
		Problems: []verificationProblem{}, Found: r.Found, Notes: append([]string{}, r.Notes...),
	}
	for _, p := range r.Problems {
		v.Problems = append(v.Problems, verificationProblem{p.StreamID, p.Seq, p.What})
	}
	return marshalJSON(a.Stdout, v)
}
