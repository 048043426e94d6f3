package run_test

import (
	_ "github.com/dime-bus/dime/connectors/alpha" // want import-pipeline
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/rogpeppe/go-internal/txtar"
)
