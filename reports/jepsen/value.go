package jepsen

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"olympos.io/encoding/edn"
)

// plain are values that have one spelling only.
var plain = regexp.MustCompile(`^(?:nil|true|false|0|-?[1-9][0-9]{0,17}|:[A-Za-z][A-Za-z0-9_-]*)$`)

// canonical spells a value so that equal values are equal texts: by Clojure's =,
// by which a list equals a vector and 1 is not 1.0.
func canonical(form []byte) (string, error) {
	if plain.Match(form) {
		return string(form), nil
	}
	v, err := decode(form)
	if err != nil {
		return "", err
	}
	return spell(v)
}

// decode reads one form, which must have come out of an extent: that bounds
// what the decoder recurses into.
func decode(form []byte) (v any, err error) {
	defer func() {
		if r := recover(); r != nil {
			v, err = nil, fmt.Errorf("%s: %v", brief(form), r)
		}
	}()
	d := edn.NewDecoder(bufio.NewReader(bytes.NewReader(form)))
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("%s: %w", brief(form), err)
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: more than one value", brief(form))
	}
	return v, nil
}

func spell(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "nil", nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case big.Int:
		if v.IsInt64() {
			return v.String(), nil
		}
		return v.String() + "N", nil
	case float64:
		s := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(s, ".e") {
			s += ".0"
		}
		return s, nil
	case string:
		return string(appendString(nil, v)), nil
	case rune:
		if v <= 0xffff {
			return fmt.Sprintf(`\u%04x`, v), nil
		}
		return `\` + string(v), nil
	case edn.Keyword:
		return ":" + string(v), nil
	case edn.Symbol:
		return string(v), nil
	case edn.Tag:
		s, err := spell(v.Value)
		return "#" + v.Tagname + " " + s, err
	case time.Time:
		return "#inst " + strconv.Quote(v.UTC().Format(time.RFC3339Nano)), nil
	case []byte:
		return "#base64 " + strconv.Quote(base64.StdEncoding.EncodeToString(v)), nil
	case *any:
		return spell(*v) // a collection as key or element
	case []any:
		all := make([]string, len(v))
		for i := range v {
			var err error
			if all[i], err = spell(v[i]); err != nil {
				return "", err
			}
		}
		return "[" + strings.Join(all, " ") + "]", nil
	case map[any]bool:
		all := make([]string, 0, len(v))
		for element := range v {
			s, err := spell(element)
			if err != nil {
				return "", err
			}
			all = append(all, s)
		}
		slices.Sort(all)
		return "#{" + strings.Join(slices.Compact(all), " ") + "}", nil
	case map[any]any:
		all := make([]string, 0, len(v))
		for key, value := range v {
			k, err := spell(key)
			if err != nil {
				return "", err
			}
			s, err := spell(value)
			if err != nil {
				return "", err
			}
			all = append(all, k+" "+s)
		}
		slices.Sort(all)
		return "{" + strings.Join(all, ", ") + "}", nil
	default:
		return "", fmt.Errorf("a value of type %T", v)
	}
}

// elements returns the forms in a collection, and what it begins with: one of
// "[", "(", "{" and "#{", or "" if form is no collection.
func elements(form []byte) (all [][]byte, opener string, err error) {
	_, form = untag(form)
	switch {
	case len(form) == 0:
		return nil, "", nil
	case form[0] == '[' || form[0] == '(' || form[0] == '{':
		opener = string(form[:1])
	case bytes.HasPrefix(form, []byte("#{")):
		opener, form = "#{", form[1:]
	default:
		return nil, "", nil
	}
	all, err = parts(nil, form)
	return all, opener, err
}
