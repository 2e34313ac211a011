package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// chained is a plugin that adds nothing to what those before it have made (CNI spec 1.1.0, section 4): the
// answer to an ADD is their result.
func chained(stdin io.Reader) error {
	var config struct {
		CNIVersion string          `json:"cniVersion"`
		PrevResult json.RawMessage `json:"prevResult"`
	}
	if err := json.NewDecoder(stdin).Decode(&config); err != nil {
		return err
	}
	switch os.Getenv("CNI_COMMAND") {
	case "VERSION":
		return tell(map[string]any{"cniVersion": "1.1.0", "supportedVersions": []string{"1.0.0", "1.1.0"}})
	case "ADD":
		if os.Getenv("FAIL") != "" {
			err := tell(map[string]any{"cniVersion": config.CNIVersion, "code": 100, "msg": "told to fail"})
			if err != nil {
				return err
			}
			os.Exit(1)
		}
		if len(config.PrevResult) == 0 {
			return fmt.Errorf("no prevResult")
		}
		return tell(config.PrevResult)
	}
	return nil
}
