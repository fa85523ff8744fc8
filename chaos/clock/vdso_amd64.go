package clock

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// Where in stub the functions and the data are, and where the instructions
// that call an original end.
const (
	getTime   = 0x00
	timeOfDay = 0x60
	seconds   = 0xa0
	dataAt    = 0xd0

	getTimeCall   = 0x0b
	timeOfDayCall = 0x6a
	secondsCall   = 0xb2 // of clock_gettime, for the coarse clock that time reads
)

// stub stands in for three functions of the vDSO. It runs wherever it is put.
// Stacks are 8 bytes off 16 at the first instruction of a function.
var stub = []byte{
	// clock_gettime(edi: id, rsi: timespec)
	0x57,                   // push rdi
	0x56,                   // push rsi
	0x48, 0x83, 0xec, 0x08, // sub rsp, 0x8
	0xe8, 0x15, 0x01, 0x00, 0x00, // call the original
	0x48, 0x83, 0xc4, 0x08, // add rsp, 0x8
	0x5e,       // pop rsi
	0x5f,       // pop rdi
	0x85, 0xc0, // test eax, eax
	0x75, 0x3e, // jne done

	// shift: adds the offset to the timespec at rsi if clock edi is to be moved
	0x83, 0xff, 0x1f, // cmp edi, 0x1f
	0x77, 0x39, // ja done
	0x48, 0x8d, 0x15, 0xaf, 0x00, 0x00, 0x00, // lea rdx, [data]
	0x0f, 0xb6, 0x0a, // movzx ecx, byte [rdx]
	0x48, 0x01, 0xca, // add rdx, rcx
	0x8b, 0x4a, 0x0c, // mov ecx, [rdx+0xc]
	0x0f, 0xa3, 0xf9, // bt ecx, edi
	0x73, 0x24, // jae done
	0x48, 0x8b, 0x0a, // mov rcx, [rdx]
	0x48, 0x01, 0x0e, // add [rsi], rcx
	0x8b, 0x4a, 0x08, // mov ecx, [rdx+0x8]
	0x48, 0x03, 0x4e, 0x08, // add rcx, [rsi+0x8]
	0x48, 0x81, 0xf9, 0x00, 0xca, 0x9a, 0x3b, // cmp rcx, 1e9
	0x72, 0x0a, // jb whole
	0x48, 0x81, 0xe9, 0x00, 0xca, 0x9a, 0x3b, // sub rcx, 1e9
	0x48, 0xff, 0x06, // inc [rsi]
	0x48, 0x89, 0x4e, 0x08, // whole: mov [rsi+0x8], rcx
	0xc3, // done: ret
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,

	// gettimeofday(rdi: timeval, rsi: timezone), in microseconds
	0x57,                   // push rdi
	0x48, 0x83, 0xec, 0x10, // sub rsp, 0x10
	0xe8, 0xb6, 0x00, 0x00, 0x00, // call the original
	0x48, 0x83, 0xc4, 0x10, // add rsp, 0x10
	0x5e,       // pop rsi
	0x85, 0xc0, // test eax, eax
	0x75, 0xe0, // jne done
	0x48, 0x85, 0xf6, // test rsi, rsi
	0x74, 0xdb, // je done
	0x48, 0x69, 0x4e, 0x08, 0xe8, 0x03, 0x00, 0x00, // imul rcx, [rsi+0x8], 1000
	0x48, 0x89, 0x4e, 0x08, // mov [rsi+0x8], rcx
	0x31, 0xff, // xor edi, edi
	0xe8, 0x8a, 0xff, 0xff, 0xff, // call shift
	0x48, 0x8b, 0x46, 0x08, // mov rax, [rsi+0x8]
	0x31, 0xd2, // xor edx, edx
	0xb9, 0xe8, 0x03, 0x00, 0x00, // mov ecx, 1000
	0x48, 0xf7, 0xf1, // div rcx
	0x48, 0x89, 0x46, 0x08, // mov [rsi+0x8], rax
	0x31, 0xc0, // xor eax, eax
	0xc3, // ret

	// time(rdi: where to store it, or 0)
	0x57,                   // push rdi
	0x48, 0x83, 0xec, 0x10, // sub rsp, 0x10
	0x48, 0x89, 0xe6, // mov rsi, rsp
	0xbf, 0x05, 0x00, 0x00, 0x00, // mov edi, 0x5
	0xe8, 0x6e, 0x00, 0x00, 0x00, // call the original
	0x48, 0x89, 0xe6, // mov rsi, rsp
	0x31, 0xff, // xor edi, edi
	0xe8, 0x59, 0xff, 0xff, 0xff, // call shift
	0x48, 0x8b, 0x04, 0x24, // mov rax, [rsp]
	0x48, 0x83, 0xc4, 0x10, // add rsp, 0x10
	0x5f,             // pop rdi
	0x48, 0x85, 0xff, // test rdi, rdi
	0x74, 0x03, // je stored
	0x48, 0x89, 0x07, // mov [rdi], rax
	0xc3, // stored: ret
	0, 0,
}

// redirect says what to write into a vDSO, given as it is in memory, so that
// its functions run the stub: positions are offsets into it. data is where the
// stub's data will be.
func redirect(image []byte) (list []edit, data uint64, err error) {
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, 0, fmt.Errorf("%w: vDSO: %w", ErrUnavailable, err)
	}
	if file.Machine != elf.EM_X86_64 {
		return nil, 0, fmt.Errorf("%w for a program that is not for amd64 (vDSO of %v)", ErrUnavailable, file.Machine)
	}
	table := file.SectionByType(elf.SHT_DYNSYM)
	symbols, err := file.DynamicSymbols()
	if err != nil || table == nil {
		return nil, 0, fmt.Errorf("%w: vDSO has no symbols: %v", ErrUnavailable, err)
	}
	var bias uint64 // from an offset to the address that the file calls it
	for _, p := range file.Progs {
		if p.Type == elf.PT_LOAD {
			bias = p.Vaddr - p.Off
		}
	}

	const size = dataAt + dataSize
	at := (end(file, image) + 15) &^ 15
	if at+size > uint64(len(image)) {
		return nil, 0, fmt.Errorf("%w: the vDSO has %d bytes of room, want %d", ErrUnavailable, max(0, len(image)-int(at)), size)
	}
	code := make([]byte, size)
	copy(code, stub)
	code[dataAt] = slotSize // the first slot, with an empty set of clocks

	found := 0
	for i, s := range symbols {
		var function uint64
		calls := []uint64{}
		switch s.Name {
		case "__vdso_clock_gettime", "clock_gettime":
			function, calls = getTime, []uint64{getTimeCall, secondsCall}
		case "__vdso_gettimeofday", "gettimeofday":
			function, calls = timeOfDay, []uint64{timeOfDayCall}
		case "__vdso_time", "time":
			function = seconds
		default:
			continue
		}
		found++
		for _, call := range calls {
			distance := s.Value - bias - (at + call)
			binary.LittleEndian.PutUint32(code[call-4:], uint32(distance))
		}
		list = append(list, edit{
			at:    table.Offset + uint64(i+1)*elf.Sym64Size + 8, // st_value; the first symbol is not listed
			value: binary.LittleEndian.AppendUint64(nil, at+function+bias),
		})
	}
	if found != 6 {
		return nil, 0, fmt.Errorf("%w: the vDSO has %d of 6 names of its clock functions", ErrUnavailable, found)
	}
	return append(list, edit{at, code}), at + dataAt, nil
}

// end is where the file in the image ends; after it there are only zeros.
func end(file *elf.File, image []byte) uint64 {
	last := len(bytes.TrimRight(image, "\x00"))
	// The header of the last section may end in zeros, too.
	sections := binary.LittleEndian.Uint64(image[0x28:])
	count, size := binary.LittleEndian.Uint16(image[0x3c:]), binary.LittleEndian.Uint16(image[0x3a:])
	to := max(uint64(last), sections+uint64(count)*uint64(size))
	for _, s := range file.Sections {
		to = max(to, s.Offset+s.FileSize)
	}
	return to
}
