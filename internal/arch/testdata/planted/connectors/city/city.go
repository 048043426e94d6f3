package city

import _ "github.com/dime-bus/dime/pipeline/language" // want import-connectors-city
