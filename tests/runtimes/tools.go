//go:build tools

// Package main's other half: the programs that `cargo xtask test` builds from this module's lock.
package main

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
)
