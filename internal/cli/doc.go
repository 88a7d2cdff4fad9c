// Package cli holds the operator's commands, each a function of its arguments, streams and environment.
//
// Invariants:
//
//   - I1: a value or password never comes from an argument, where process lists and shell histories show it, and is
//     never echoed in an error. Commands that change a secret don't print what it holds; only `secret get` does.
//   - A token goes only to the host that VAULT_ADDR names, over TLS or loopback unless the user insists, and only if it
//     is a Sealkeep token: VAULT_ADDR and VAULT_TOKEN are HashiCorp's names too. Redirects are never followed.
//   - I4: a check that could not be made is not a check that failed: `secret verify` and `audit verify` have an exit
//     status of their own for it.
//   - Nothing here ends the process or reads its global state: [Run] returns the exit status.
package cli
