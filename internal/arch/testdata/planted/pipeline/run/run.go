package run

import (
	_ "example.org/nobody/knows"                  // want owner
	_ "github.com/dime-bus/dime/cmd/dime"         // want import-pipeline
	_ "github.com/dime-bus/dime/config"           // want import-pipeline
	_ "github.com/dime-bus/dime/connectors/alpha" // want import-pipeline
	_ "gopkg.in/yaml.v3"                          // want owner
)
