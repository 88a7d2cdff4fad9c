package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/process"
)

func (a *app) versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			platform := runtime.GOOS + "/" + runtime.GOARCH
			if asJSON {
				return marshalJSON(a.Stdout, map[string]string{
					"version": process.Version, "go": runtime.Version(), "platform": platform,
				})
			}
			_, err := fmt.Fprintf(a.Stdout, "sealkeep %s (%s, %s)\n", process.Version, runtime.Version(), platform)
			return err
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
