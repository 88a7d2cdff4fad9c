// Package migrations holds the schema's numbered SQL files. They only go forward: an applied file is never edited, a
// change is a new file.
package migrations

import "embed"

// Files holds every migration, named NNNNN_title.sql.
//
//go:embed *.sql
var Files embed.FS
