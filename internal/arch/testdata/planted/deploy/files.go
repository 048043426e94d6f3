// Package deploy is planted.
package deploy

import (
	_ "github.com/dime-bus/dime/internal/bus" // want import-deploy
)
