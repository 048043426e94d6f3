package main

import _ "github.com/dime-bus/dime/cmd/dime" // want reader
