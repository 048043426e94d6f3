package expression

import (
	"strings"

	"github.com/expr-lang/expr/ast"

	"github.com/dime-bus/dime/internal/schema"
)

// blamed is the part of an expression that a mismatch is about: the entry of a
// map literal, the body of a map(), the branch of an `if` or of ?? that is itself
// a literal of the wrong kind. What can't be told apart is blamed whole.
func (c *compiler) blamed(node ast.Node, m schema.Mismatch, want *schema.Type) ast.Node {
	if found := blame(node, m.Path, m.Rule, want); found != nil {
		return found
	}
	return node
}

func blame(node ast.Node, path, rule string, want *schema.Type) ast.Node {
	if want == nil {
		return nil
	}
	switch n := node.(type) {
	case *ast.ConditionalNode:
		return firstBlamed([]ast.Node{n.Exp1, n.Exp2}, path, rule, want)
	case *ast.BinaryNode:
		if n.Operator == "??" {
			return firstBlamed([]ast.Node{n.Left, n.Right}, path, rule, want)
		}
	case *ast.MapNode:
		return inMap(n, path, rule, want)
	case *ast.ArrayNode:
		if rest, ok := element(path); ok {
			return firstBlamed(n.Nodes, rest, rule, want.Items)
		}
	case *ast.BuiltinNode:
		rest, ok := element(path)
		if n.Name != "map" || len(n.Arguments) != 2 || !ok {
			return nil
		}
		if body, isPredicate := n.Arguments[1].(*ast.PredicateNode); isPredicate {
			return orWhole(blame(body.Node, rest, rule, want.Items), body.Node)
		}
	default:
		if path != "" {
			return nil
		}
		for _, m := range schema.Assignable(literalOf(node), want) {
			if m.Rule == rule {
				return node
			}
		}
	}
	return nil
}

func inMap(n *ast.MapNode, path, rule string, want *schema.Type) ast.Node {
	name, rest := head(path)
	if name == "" {
		return nil
	}
	for _, p := range n.Pairs {
		pair, _ := p.(*ast.PairNode)
		if key, ok := pair.Key.(*ast.StringNode); ok && key.Value == name {
			return orWhole(blame(pair.Value, rest, rule, property(want, name)), pair.Value)
		}
	}
	return nil
}

func orWhole(found, whole ast.Node) ast.Node {
	if found != nil {
		return found
	}
	return whole
}

func firstBlamed(nodes []ast.Node, path, rule string, want *schema.Type) ast.Node {
	for _, n := range nodes {
		if found := blame(n, path, rule, want); found != nil {
			return found
		}
	}
	return nil
}

// head splits "stamp.price" and "items[].price" behind their first property.
func head(path string) (name, rest string) {
	i := strings.IndexAny(path, ".[")
	if i < 0 {
		return path, ""
	}
	return path[:i], strings.TrimPrefix(path[i:], ".")
}

func element(path string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(path, "[]")
	return strings.TrimPrefix(rest, "."), ok
}

func property(t *schema.Type, name string) *schema.Type {
	if f := t.Fields[name]; f != nil {
		return f.Type
	}
	return t.Extra
}

// literalOf is the type of a literal; nil for everything else.
func literalOf(n ast.Node) *schema.Type {
	one := func(k schema.Kind, v any) *schema.Type {
		return &schema.Type{Kind: k, Enum: []any{v}, Literal: true}
	}
	switch n := n.(type) {
	case *ast.StringNode:
		return one(schema.String, n.Value)
	case *ast.IntegerNode:
		return one(schema.Int, n.Value)
	case *ast.FloatNode:
		return one(schema.Number, n.Value)
	case *ast.BoolNode:
		return one(schema.Bool, n.Value)
	case *ast.NilNode:
		return &schema.Type{Kind: schema.Null, Nullable: true}
	}
	return nil
}
