package control

import (
	_ "net/http"

	_ "github.com/dime-bus/dime/internal/fault" // want import-control
	_ "gopkg.in/yaml.v3"                        // want owner
)
