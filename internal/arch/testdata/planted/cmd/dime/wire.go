package main

import (
	_ "github.com/dime-bus/dime/config"
	_ "github.com/dime-bus/dime/connectors/all"
	_ "github.com/dime-bus/dime/routes"
)
