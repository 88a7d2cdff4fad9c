package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/process"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

const platform = runtime.GOOS + "/" + runtime.GOARCH

func versionLine() string {
	return fmt.Sprintf("sealkeep %s (%s, %s, runtime/secret %s)", process.Version, runtime.Version(), platform, erasure())
}

// erasure says whether this build erases what ciphers leave in memory; see sensitive.Erases.
func erasure() string {
	if sensitive.Erases {
		return "on"
	}
	return "off"
}

func (a *app) versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return marshalJSON(a.Stdout, map[string]string{
					"version": process.Version, "go": runtime.Version(), "platform": platform, "runtime_secret": erasure(),
				})
			}
			_, err := fmt.Fprintln(a.Stdout, versionLine())
			return err
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
