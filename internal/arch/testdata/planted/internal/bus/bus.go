package bus

import (
	"log" // want log
	"os"
	"sync"

	_ "github.com/dime-bus/dime/config"       // want import-internal
	_ "github.com/dime-bus/dime/pipeline/run" // want import-internal
)

var (
	table = [...]string{"fixed"}
	pool  sync.Pool
	lock  sync.Mutex // want global
	cache = map[string]string{}
	later string                 // want global
	made  = make(map[string]int) // want global
)

func init() { // want init
	log.Print(table, &pool, &lock, later, made)
}

func Set(k string) {
	cache[k] = os.Getenv(k) // want environment global
	local := map[string]string{}
	local[k] = "private"
	cache := local
	cache[k] = "shadows"
}
