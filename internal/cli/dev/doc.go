// Package dev runs a whole vault from one command, for development: a private PostgreSQL, a local master key, and the
// processes that exist, each a child that executes this same binary.
//
// Invariants:
//
//   - One process holds a folder at a time; another one is told which.
//   - What the environment says in VAULT_* is kept, an empty variable too; only what is unset is filled in. The database
//     is always this folder's own, whatever the environment says of another.
//   - /readyz answers only after the folder's admin-token and env are written. Files that hold a token or a key have mode
//     0600 from the moment they exist, and appear whole or not at all.
//   - The first admin token is on disk before the vault that knows it exists: a crash between the two loses nothing.
//   - A vault whose master key is gone is refused. A new key would make everything in it unreadable without a word.
//   - Nothing outlives the parent: children end when it dies, however it dies; PostgreSQL has a watchdog of its own.
package dev
