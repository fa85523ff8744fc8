package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// cliDoc is where docs/cli.md begins to be made of the subcommands.
const cliDoc = "<!-- from here on made by go test ./cmd/statequake -run TestCLIDoc -update -->\n"

// TestCLIDoc: docs/cli.md says of every subcommand what the subcommand says.
func TestCLIDoc(t *testing.T) {
	made(t, "docs/cli.md", cliDoc, describeCommands())
}

// made compares the part of a document below a mark with what it is made of, or
// writes it anew.
func made(t *testing.T, path, mark, want string) {
	t.Helper()
	file := filepath.Join(repository, path)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	intro, have, ok := strings.Cut(string(text), mark)
	switch {
	case !ok:
		t.Fatalf("%s has no line %s", path, mark)
	case *update:
		if err := os.WriteFile(file, []byte(intro+mark+want), 0o644); err != nil {
			t.Fatal(err)
		}
	case have != want:
		t.Errorf("%s is not what the program says\nhint: go test ./cmd/statequake -run %s -update", path, t.Name())
	}
}

// describeCommands is a table of the subcommands, then a section for each.
func describeCommands() string {
	var table, sections strings.Builder
	table.WriteString("\n| command | what it does |\n| --- | --- |\n")
	for _, c := range everyCommand(rootCmd()) {
		if !c.Runnable() {
			continue // it has subcommands of its own, or is the program
		}
		name := strings.TrimPrefix(c.CommandPath(), "statequake ")
		fmt.Fprintf(&table, "| [`%s`](#%s) | %s |\n", name, slug(name), c.Short)
		fmt.Fprintf(&sections, "\n## %s\n\n    %s\n\n", name, strings.TrimSuffix(c.UseLine(), " [flags]"))
		text := c.Long
		if text == "" {
			text = c.Short + "."
		}
		sections.WriteString(prose(text))
		sections.WriteString(flagTable(c))
		sections.WriteString("\nExamples:\n\n" + indent(c.Example))
	}
	return table.String() + sections.String()
}

// prose writes the help of a command as Markdown: what it indents stays a block.
func prose(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "  "):
			line = "    " + strings.TrimPrefix(line, "  ")
		default:
			line = markdown(line)
		}
		b.WriteString(line + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// markdown keeps what Markdown would take for something else.
func markdown(line string) string {
	return strings.NewReplacer("<", "&lt;", "*", `\*`, "|", `\|`).Replace(line)
}

// indent writes the examples of a command as a block.
func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimPrefix(strings.TrimRight(line, "\n"), "  ")
		if line != "" {
			line = "    " + line
		}
		b.WriteString(line + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// flagTable is a table of the flags of a command, empty if it has none but help.
func flagTable(c *cobra.Command) string {
	var b strings.Builder
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Hidden {
			return
		}
		if b.Len() == 0 {
			b.WriteString("\n| flag | value | default | meaning |\n| --- | --- | --- | --- |\n")
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name += ", `-" + f.Shorthand + "`"
		}
		kind := map[string]string{
			"bool": "", "string": "text", "stringArray": "text, repeated", "int": "whole number", "int64": "whole number", "float64": "number",
		}[f.Value.Type()]
		if kind == "" && f.Value.Type() != "bool" {
			kind = f.Value.Type()
		}
		value := f.DefValue
		if value == "false" || value == "[]" || value == "0" || value == "0s" && f.Value.Type() == "duration" {
			value = ""
		}
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, kind, value, markdown(f.Usage))
	})
	return b.String()
}
