// Package explain turns a violation into the few operations that show it: as a
// story in words, as a drawing, and as a history that is judged the same.
package explain
