package all

import _ "github.com/dime-bus/dime/pipeline/language" // want import-connectors-all
