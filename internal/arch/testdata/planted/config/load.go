package config

import (
	_ "github.com/dime-bus/dime/internal/yamldoc"
	_ "github.com/dime-bus/dime/pipeline/run" // want import-config
)
