package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/internal/identity"
)

// cityKeyFile is where the virtual city keeps the key that signs caller tokens.
func cityKeyFile(data string) string { return filepath.Join(data, "city", "caller-key.json") }

func newToken() *cobra.Command {
	var data string
	var c identity.Caller
	var citizen, operator string
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Print a caller token for the virtual city, and nothing else",
		Long: `Print a caller token for the virtual city, and nothing else. Send it as
"Authorization: Bearer TOKEN". It is signed by the city's key below --data and is
worth nothing where serve runs with --city off.`,
		Example: `  curl -H "Authorization: Bearer $(dime token --citizen RSSMRA80A01L736U --assurance 2)" ...`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case citizen != "" && operator != "":
				return usageError{fmt.Errorf("a token is for a --citizen or for an --operator, not for both")}
			case citizen != "":
				c.Kind, c.TaxCode, c.Subject = "citizen", citizen, citizen
			case operator != "":
				c.Kind, c.Subject = "operator", operator
			default:
				return usageError{fmt.Errorf("say for whom: --citizen TAX_CODE or --operator NAME")}
			}
			if c.Assurance < 0 || c.Assurance > 3 {
				return usageError{fmt.Errorf("--assurance is 0 to 3, not %d", c.Assurance)}
			}
			signer, err := identity.OpenSigner(cityKeyFile(data))
			if err != nil {
				return fmt.Errorf("opening the city's key: %w", err)
			}
			token, err := signer.Issue(c, identity.CityIssuer, time.Now(), identity.CityTokenLife)
			if err != nil {
				return fmt.Errorf("issuing the token: %w", err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	def := "data"
	if v := os.Getenv("DIME_DATA"); v != "" {
		def = v
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", def, "the data folder of serve or of the city")
	f.StringVar(&citizen, "citizen", "", "a citizen's codice fiscale")
	f.StringVar(&operator, "operator", "", "an operator's user name")
	f.IntVar(&c.Assurance, "assurance", 2, "level of assurance, 0 to 3 (SPID, CIE, CNS, eIDAS alike)")
	f.StringVar(&c.Office, "office", "", "the operator's office")
	f.StringSliceVar(&c.Roles, "role", nil, "the operator's roles")
	f.StringVar(&c.Channel, "channel", "web", "the channel through which the caller comes")
	f.StringVar(&c.Language, "language", "it", "it, en, de or fr")
	f.StringVar(&c.ActingFor, "acting-for", "", "tax code of the person for whom the caller acts")
	return cmd
}
