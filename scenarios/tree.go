package scenarios

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document reads the one YAML document of data and returns its root value, nil
// if there is none, or what is wrong with it. Anchors, aliases and tags are refused, so a value
// says what it means where it stands and cannot grow when it is expanded.
func document(data []byte) (*yaml.Node, *problem) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		return nil, nil
	} else if err != nil {
		return nil, syntaxProblem(err)
	}
	var more yaml.Node
	if err := decoder.Decode(&more); err == nil {
		return nil, &problem{place: place{line: more.Line}, text: "a second document begins; a file holds one scenario"}
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxProblem(err)
	}
	root := doc.Content[0]
	if p := refuseIndirection(root); p != nil {
		return nil, p
	}
	return root, nil
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// syntaxProblem words an error of the YAML library. The library counts the
// lines of its parser's errors (not of its scanner's) from 0, and names no
// line for the first.
func syntaxProblem(err error) *problem {
	m := yamlError.FindStringSubmatch(err.Error())
	if m == nil {
		return &problem{text: "not YAML: " + err.Error()}
	}
	line, _ := strconv.Atoi(m[1])
	text := m[2]
	switch {
	case strings.HasPrefix(text, "did not find "):
		line++
	case line == 0 && (strings.HasPrefix(text, "found ") || strings.HasPrefix(text, "mapping values ")):
		line = 1
	}
	return &problem{place: place{line: line}, text: "not YAML: " + text}
}

func refuseIndirection(n *yaml.Node) *problem {
	switch {
	case n.Kind == yaml.AliasNode:
		return &problem{place: place{line: n.Line}, text: fmt.Sprintf("alias *%s: aliases are not accepted", n.Value), hint: "write the value out"}
	case n.Anchor != "":
		return &problem{place: place{line: n.Line}, text: fmt.Sprintf("anchor &%s: anchors are not accepted", n.Anchor), hint: "write the value out"}
	case n.Style&yaml.TaggedStyle != 0:
		return &problem{place: place{line: n.Line}, text: fmt.Sprintf("tag %s: tags are not accepted", n.Tag)}
	}
	for _, c := range n.Content {
		if p := refuseIndirection(c); p != nil {
			return p
		}
	}
	return nil
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// describe says what kind of value n is, for an error.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	default:
		return strconv.Quote(shorten(n.Value))
	}
}

// shorten keeps a value that is quoted in an error on one line.
func shorten(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}

// child finds the pair of a key in a mapping.
func child(n *yaml.Node, key string) (keyNode, value *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

// toJSON writes n as JSON, fields in the order of the file.
func toJSON(n *yaml.Node) (json.RawMessage, *problem) {
	var b bytes.Buffer
	if p := appendJSON(&b, n); p != nil {
		return nil, p
	}
	return b.Bytes(), nil
}

func appendJSON(b *bytes.Buffer, n *yaml.Node) *problem {
	refuse := func(format string, args ...any) *problem {
		return &problem{place: place{line: n.Line}, text: fmt.Sprintf(format, args...)}
	}
	switch n.Kind {
	case yaml.MappingNode:
		first := map[string]int{}
		b.WriteByte('{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode {
				return &problem{place: place{line: key.Line}, text: "a field name must be a word, got " + describe(key)}
			}
			if line, ok := first[key.Value]; ok {
				return &problem{place: place{line: key.Line}, text: fmt.Sprintf("%s is given twice, first in line %d", key.Value, line)}
			}
			first[key.Value] = key.Line
			if i > 0 {
				b.WriteByte(',')
			}
			writeString(b, key.Value)
			b.WriteByte(':')
			if p := appendJSON(b, n.Content[i+1]); p != nil {
				return p
			}
		}
		b.WriteByte('}')
		return nil
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, c := range n.Content {
			if i > 0 {
				b.WriteByte(',')
			}
			if p := appendJSON(b, c); p != nil {
				return p
			}
		}
		b.WriteByte(']')
		return nil
	}
	switch n.ShortTag() {
	case "!!null":
		b.WriteString("null")
	case "!!bool":
		var v bool
		if err := n.Decode(&v); err != nil {
			return refuse("%s is neither true nor false", describe(n))
		}
		b.WriteString(strconv.FormatBool(v))
	case "!!int":
		var v int64
		if err := n.Decode(&v); err != nil {
			return refuse("%s is not a whole number of 64 bits", describe(n))
		}
		b.WriteString(strconv.FormatInt(v, 10))
	case "!!float":
		var v float64
		if err := n.Decode(&v); err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return refuse("%s is not a finite number", describe(n))
		}
		number, _ := json.Marshal(v)
		b.Write(number)
	default: // text; dates too, since the objects have none
		writeString(b, n.Value)
	}
	return nil
}

func writeString(b *bytes.Buffer, s string) {
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) // a string into memory: cannot go wrong
	b.Truncate(b.Len() - 1)
}
