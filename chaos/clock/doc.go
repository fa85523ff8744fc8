// Package clock moves the clocks of single processes while they run.
//
// A program asks the kernel for the time through the vDSO, a small library
// that the kernel maps into every process. Start starts a program under
// ptrace and, before its first instruction, puts a stub into the unused end of
// that library and lets the symbols clock_gettime, gettimeofday and time point
// to it; then it lets go of the process. The stub calls the original and adds
// an offset, which Set changes at any time by writing into the process's
// memory. Nothing else of the process is touched, and no other process is
// affected. It needs no root: a process may trace its own children. It works
// on amd64 only; elsewhere Start returns ErrUnavailable.
//
// # What is reached
//
// Whatever looks the symbols up: Go programs, and programs linked to a C
// library, dynamically or statically (tried with Go and glibc). In Go that is
// time.Now, with the wall clock, and the monotonic clock on request.
//
// # What is not reached
//
//   - direct system calls (syscall.Syscall, unix.ClockGettime), and clocks read
//     from the processor's counter;
//   - sleeps, timers and time-outs that the kernel counts: nanosleep, timerfd,
//     poll, futex. A program that counts them itself on the monotonic clock, as
//     Go's timers do, is reached by an offset to that clock. Setting one back
//     (also by Reset) is against all that programs expect of it: Go's timers
//     then fire late by as much;
//   - the times of files, the kernel's log, and what other machines say;
//   - programs that the process starts, and the one it turns into by exec: they
//     get a vDSO of their own (a shell that starts the node with exec hides it).
//     A fork without exec keeps the offset of its instant for good;
//   - a process that was started without Start. A process that is started again
//     needs Start again.
//
// Programs that gain privileges when they are started (setuid, file
// capabilities) do not gain them under Start. A debugger shows a frame without
// a name in the stub.
package clock
