//go:build !linux

package process

var programs map[string]func() error
