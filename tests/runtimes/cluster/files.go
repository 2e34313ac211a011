package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
)

// The kubelet's settings. Its disk and memory are the machine's, which is not a node: nothing is evicted. It
// shall not change the kernel's settings: the test shows it those that it wants.
const kubeletSettings = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: %[1]s
cgroupsPerQOS: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
enforceNodeAllocatable: []
evictionHard: {memory.available: "0%%", nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%", imagefs.inodesFree: "0%%"}
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
localStorageCapacityIsolation: false
maxPods: 110
oomScoreAdj: 0
podLogsDir: /var/lib/logs
protectKernelDefaults: true
readOnlyPort: 0
resolvConf: ""
volumePluginDir: /var/lib/kubelet/volume-plugins
`

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: node, user: {token: %q}}]
contexts: [{name: test, context: {cluster: test, user: node}}]
current-context: test
`

// writeFiles makes what the programs read.
func writeFiles(dir, node, cgroup string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	key, err := signingKey()
	if err != nil {
		return err
	}
	tokens := fmt.Sprintf("%s,admin,admin,\"system:masters\"\n%s,system:node:%s,node,\"system:nodes\"\n",
		adminToken, nodeToken, node)
	for name, content := range map[string]string{
		"key.pem":      key,
		"tokens.csv":   tokens,
		"kubelet.yaml": fmt.Sprintf(kubeletSettings, cgroup),
		"kubeconfig":   fmt.Sprintf(kubeconfig, apiServer, nodeToken),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// signingKey is the service accounts': the server does not start without.
func signingKey() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})), nil
}
