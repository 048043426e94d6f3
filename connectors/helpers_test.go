package connectors

import (
	"fmt"
	"strings"
)

func sprintf(format string, v any) string { return fmt.Sprintf(format, v) }

func containsRef(s string) bool {
	return strings.Contains(s, "DIME_TEST_SECRET") || strings.Contains(s, "hunter2")
}
