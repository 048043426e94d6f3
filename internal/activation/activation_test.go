package activation

import (
	"strings"
	"testing"
)

func TestSocketsOfTheServiceManager(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want string // of the error; "" for none and no socket
	}{
		{nil, ""},
		{map[string]string{"LISTEN_PID": "8", "LISTEN_FDS": "1"}, ""}, // a parent's, not ours
		{map[string]string{"LISTEN_PID": "7", "LISTEN_FDS": "many"}, "LISTEN_FDS"},
		{map[string]string{"LISTEN_PID": "7", "LISTEN_FDS": "1"}, "FileDescriptorName="},
		{map[string]string{"LISTEN_PID": "7", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "dime.socket"}, `"dime.socket"`},
	} {
		ls, err := Sockets(func(name string) string { return c.env[name] }, 7, "listen", "admin")
		if len(ls) != 0 || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, %v", c.env, ls, err)
		}
	}
}
