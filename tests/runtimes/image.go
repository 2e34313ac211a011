package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/containerd/containerd/v2/client"
)

// The image of every container here; CONFIG names it as the sandboxes'.
const image = "localhost/ipamd-tests:1"

// importImage makes an image of one static program and gives it to containerd.
func importImage(ctx context.Context, program string) error {
	archive, err := archive(program)
	if err != nil {
		return err
	}
	there, err := client.New(socket, client.WithDefaultNamespace("k8s.io"))
	if err != nil {
		return err
	}
	defer there.Close()
	images, err := there.Import(ctx, archive)
	if err != nil {
		return err
	}
	for _, made := range images {
		if err := client.NewImage(there, made).Unpack(ctx, "overlayfs"); err != nil {
			return err
		}
	}
	return nil
}

// archive is an OCI image layout (image-spec 1.1) as a tar file.
func archive(program string) (io.Reader, error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	layer := tarOf(map[string][]byte{"pause": content})
	blobs := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	add := func(kind string, content []byte) map[string]any {
		digest := fmt.Sprintf("%x", sha256.Sum256(content))
		blobs["blobs/sha256/"+digest] = content
		mediaType := "application/vnd.oci.image." + kind
		return map[string]any{"mediaType": mediaType, "digest": "sha256:" + digest, "size": len(content)}
	}
	asJSON := func(value any) []byte {
		// Maps of texts and numbers: there is nothing that could fail.
		text, _ := json.Marshal(value)
		return text
	}
	layers := add("layer.v1.tar", layer)
	config := add("config.v1+json", asJSON(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/pause"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{layers["digest"]}},
	}))
	manifest := add("manifest.v1+json", asJSON(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": config, "layers": []any{layers},
	}))
	manifest["annotations"] = map[string]string{"io.containerd.image.name": image}
	blobs["index.json"] = asJSON(map[string]any{"schemaVersion": 2, "manifests": []any{manifest}})
	return bytes.NewReader(tarOf(blobs)), nil
}

func tarOf(files map[string][]byte) []byte {
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	for name, content := range files {
		header := tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), Format: tar.FormatPAX}
		// Into memory: neither can fail.
		_ = archive.WriteHeader(&header)
		_, _ = archive.Write(content)
	}
	_ = archive.Close()
	return buffer.Bytes()
}
