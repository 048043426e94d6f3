package alpha

import (
	_ "github.com/dime-bus/dime/connectors"
	_ "github.com/dime-bus/dime/connectors/beta" // want import-connector
	_ "github.com/dime-bus/dime/internal/bus"    // want import-connector
	_ "github.com/dime-bus/dime/internal/fault"
	_ "github.com/dime-bus/dime/pipeline/run" // want import-connector
	_ "github.com/dime-bus/dime/routes"       // want import-connector
)
