package schema

import "github.com/dime-bus/dime/internal/yamldoc"

// Suggest is yamldoc's, for those who know schemas and not YAML.
func Suggest(word string, candidates []string) string { return yamldoc.Suggest(word, candidates) }

// DidYouMean is yamldoc's.
func DidYouMean(word string, candidates []string) string { return yamldoc.DidYouMean(word, candidates) }
