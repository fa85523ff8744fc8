package history

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// table returns the rows of the first table of FORMAT.md whose header starts
// with the given cell, below the given heading.
func table(t *testing.T, heading, cell string) [][]string {
	t.Helper()
	format, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(format), "\n"+heading+"\n")
	if !found {
		t.Fatalf("FORMAT.md has no heading %q", heading)
	}
	_, section, found = strings.Cut(section, "\n| "+cell+" |")
	if !found {
		t.Fatalf("FORMAT.md has no table of %q under %q", cell, heading)
	}
	lines := strings.Split(section, "\n")[2:] // rest of the header, rule
	var rows [][]string
	for _, line := range lines {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(cells[i], " `")
		}
		rows = append(rows, cells)
	}
	return rows
}

// members returns the names of a JSON object's members in their order.
func members(t *testing.T, object []byte) (names []string) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(object)))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name.(string))
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// TestFormatTables compares the tables of FORMAT.md with what is written: a
// record with every field, and an empty one for what is always there.
func TestFormatTables(t *testing.T) {
	encode := func(record any) []byte {
		line, err := encodeLine(record)
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	footer := fullFooter()
	footer.Counts = map[Phase]Counts{Load: {OK: 1}}
	op, empty := fullOp(), Op{Version: -1}
	for _, test := range []struct {
		heading, cell string
		full, empty   []byte
	}{
		{"## history.jsonl", "field", appendOp(nil, &op), appendOp(nil, &empty)},
		{"### The footer", "field", encode(footer), encode(Footer{})},
		{"### The footer", "field of counts", encode(Counts{1, 1, 1, 1}), encode(Counts{})},
		{"### The footer", "field of thresholds", encode(fullThreshold()), encode(Threshold{})},
		{"## faults.jsonl", "field", encode(fullFault()), encode(Fault{})},
		{"## samples.jsonl", "field", encode(fullSample()), encode(Sample{})},
	} {
		var all, always []string
		for _, row := range table(t, test.heading, test.cell) {
			all = append(all, row[0])
			if row[2] == "always" {
				always = append(always, row[0])
			}
			if strings.HasSuffix(row[0], "_ns") && row[1] != "integer" {
				t.Errorf("%s: %s is documented as %s", test.heading, row[0], row[1])
			}
		}
		if written := members(t, test.full); !slices.Equal(all, written) {
			t.Errorf("%s: fields of %s\ndocumented %v\nwritten    %v", test.heading, test.cell, all, written)
		}
		if written := members(t, test.empty); !slices.Equal(always, written) {
			t.Errorf("%s: fields of %s that are always there\ndocumented %v\nwritten    %v", test.heading, test.cell, always, written)
		}
	}
}

// TestFormatFieldsRead compares the table of operations with the scanner.
func TestFormatFieldsRead(t *testing.T) {
	rows := table(t, "## history.jsonl", "field")
	if len(rows) != fieldFooter {
		t.Fatalf("%d fields are documented, %d are read", len(rows), fieldFooter)
	}
	for f, row := range rows {
		if fieldNames[f] != row[0] || (required&(1<<f) != 0) != (row[2] == "always") {
			t.Errorf("field %d: documented %v, read %s, required %v", f, row[:3], fieldNames[f], required&(1<<f) != 0)
		}
	}
}

func TestFormatDigestChain(t *testing.T) {
	rows := table(t, "### The digest chain", "version")
	if len(rows) < 3 {
		t.Fatalf("the example has %d rows", len(rows))
	}
	digest := ZeroDigest
	for i, row := range rows {
		if i > 0 {
			digest = NextDigest(digest, row[1])
		}
		if row[0] != strconv.Itoa(i) || row[2] != digest {
			t.Errorf("row %d is %v, the digest is %s", i, row, digest)
		}
	}
	format, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	last := rows[len(rows)-1]
	if command := "printf " + rows[len(rows)-2][2] + last[1] + " | sha256sum"; !strings.Contains(string(format), command) {
		t.Errorf("FORMAT.md does not hold the command %q", command)
	}
}

func TestFormatFigures(t *testing.T) {
	format, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(format)
	if !strings.HasPrefix(text, "# The run directory, version "+strconv.Itoa(Version)+"\n") {
		t.Errorf("the title does not name version %d", Version)
	}
	for _, figure := range []struct {
		pattern string
		value   int
	}{
		{`at most (\d+) MiB \(`, maxLine >> 20},
		{`longer than (\d+) MiB together`, maxAnswer >> 20},
		{`first (\d+) KiB`, maxCut >> 10},
		{`deeper than (\d+) levels`, maxDepth},
	} {
		match := regexp.MustCompile(figure.pattern).FindStringSubmatch(text)
		if match == nil {
			t.Errorf("FORMAT.md does not hold %s", figure.pattern)
			continue
		}
		if got, err := strconv.Atoi(match[1]); err != nil || got != figure.value {
			t.Errorf("%q: the code has %d", match[0], figure.value)
		}
	}
	for _, p := range []Phase{Warmup, Load, Probe, Drain, Audit} {
		found := slices.ContainsFunc(table(t, "### Ids", "letter"), func(row []string) bool { return row[1] == string(p) && row[0] == string(p[0]) })
		if !found {
			t.Errorf("the ids of phase %s are not documented", p)
		}
	}
	for _, o := range []Outcome{OK, Fail, Info, Unsent} {
		if !slices.ContainsFunc(table(t, "### Outcomes", "outcome"), func(row []string) bool { return row[0] == string(o) }) {
			t.Errorf("outcome %s is not documented", o)
		}
	}
}
