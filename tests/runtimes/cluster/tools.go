//go:build tools

// Package main's other half: the programs that `cargo xtask test --cluster` builds from this module's lock.
package main

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
