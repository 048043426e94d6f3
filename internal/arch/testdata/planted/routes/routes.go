package routes

import _ "github.com/dime-bus/dime/internal/fault" // want import-content
