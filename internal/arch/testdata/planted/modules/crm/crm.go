package crm

import (
	_ "github.com/dime-bus/dime/connectors"   // want import-module
	_ "github.com/dime-bus/dime/internal/bus" // want import-module
	_ "github.com/dime-bus/dime/internal/bus/client"
	_ "github.com/dime-bus/dime/modules/kb"   // want import-module
	_ "github.com/dime-bus/dime/pipeline/run" // want import-module
	_ "github.com/google/go-cmp/cmp"          // want owner
)
