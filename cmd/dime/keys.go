package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/dime-bus/dime/config"
)

const masterKeySize = 32

// masterKey is the key that wraps all others: the configured secret, else a file
// beside the data folder (never in it, so that a copy of the data is not also a
// copy of its key), made on first use.
func masterKey(cfg config.Config, log *slog.Logger) ([]byte, error) {
	key, err := keptMasterKey(cfg)
	if err == nil || !errors.Is(err, fs.ErrNotExist) || cfg.MasterKey.Set() {
		return key, err
	}
	file, err := masterKeyFile(cfg)
	if err != nil {
		return nil, err
	}
	if key, err = newMasterKey(file); err != nil {
		return nil, err
	}
	level := slog.LevelInfo
	if cfg.City.Mode == "off" {
		level = slog.LevelWarn
	}
	log.Log(context.Background(), level, "made a master key: without it the data can't be read; back it up apart from the data, or name another with --master-key", "file", file)
	return key, nil
}

// keptMasterKey is masterKey where there must be one already.
func keptMasterKey(cfg config.Config) ([]byte, error) {
	if cfg.MasterKey.Set() {
		v, err := cfg.MasterKey.Resolve()
		if err != nil {
			return nil, fmt.Errorf("reading the master key: %w", err)
		}
		return decodeKey(v)
	}
	file, err := masterKeyFile(cfg)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the master key: %w (put it back there, or name it with --master-key)", err)
	}
	return decodeKey(string(b))
}

// masterKeyFile is where the key is kept that no configuration names.
func masterKeyFile(cfg config.Config) (string, error) {
	data, err := filepath.Abs(cfg.Data)
	if err != nil {
		return "", fmt.Errorf("finding the master key: %w", err)
	}
	return data + ".master-key", nil
}

func newMasterKey(file string) ([]byte, error) {
	key := make([]byte, masterKeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("making a master key: %w", err)
	}
	return key, writeWhole(file, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600)
}

func decodeKey(s string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
	if err != nil || len(key) < masterKeySize {
		return nil, fmt.Errorf("the master key must be at least %d random bytes in base64; make one with: head -c 32 /dev/urandom | base64", masterKeySize)
	}
	return key, nil
}
