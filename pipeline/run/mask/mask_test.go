package mask

import (
	"reflect"
	"testing"

	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/pipeline/language"
)

// What the route's own types mark is starred even where the other side's schema
// says nothing; all the rest stays readable.
func TestMarked(t *testing.T) {
	text, secret := &schema.Type{Kind: schema.String}, &schema.Type{Kind: schema.String, Personal: true}
	item := &schema.Type{Kind: schema.Object, Fields: map[string]*schema.Field{"name": {Type: secret}, "type": {Type: text}}}
	with := &language.Value{Type: &schema.Type{Kind: schema.Object, Fields: map[string]*schema.Field{
		"files": {Type: &schema.Type{Kind: schema.Array, Items: item}}, "who": {Type: secret}, "code": {Type: text}}}}
	in := map[string]any{"files": []any{map[string]any{"name": "a.png", "type": "image/png"}}, "who": map[string]any{"x": 1}, "code": "c", "more": 2}
	want := map[string]any{"files": []any{map[string]any{"name": "***", "type": "image/png"}}, "who": "***", "code": "c", "more": 2}
	if got := marked(in, with); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	if got := marked(in, nil); !reflect.DeepEqual(got, in) {
		t.Errorf("%v", got)
	}
}
