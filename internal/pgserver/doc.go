// Package pgserver finds the PostgreSQL server programs of this machine and runs one private server with
// them. `sealkeep dev` and the test harness use it; a serving process never does.
//
// Invariants:
//
//   - Nobody else reaches the server: it listens on a socket in a folder of mode 0700 and, only when a test
//     asks for it, on 127.0.0.1.
//   - It never runs as root: as root, PostgreSQL runs as `postgres`, else `nobody`, or as whoever owns the
//     data that is already there.
//   - One process holds a data folder at a time, by a lock that the kernel drops when that process dies.
//   - It does not outlive its parent for long: a watchdog shell ends it when the parent dies, kill -9 included,
//     and Start ends what still runs on its data folder.
//   - A crash at any point leaves a folder that Start can use again: a data folder appears under its name only
//     when initdb has finished.
//   - The server inherits nothing: no file descriptor, no environment variable, no terminal, no process group.
//     A Ctrl-C at the terminal reaches only the parent, which then stops the server in order.
package pgserver
