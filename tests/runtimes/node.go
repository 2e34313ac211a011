package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// node starts `first` as first process of a process namespace, with mounts of its own: whatever containerd and
// its shims start ends with it, and so do their mounts. Its id goes to standard output.
func node(config, containerd string) error {
	// The child is to die with this thread, so the thread must stay.
	runtime.LockOSThread()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	command := exec.Command(self, "first", config, containerd)
	command.Stdin, command.Stderr = os.Stdin, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := command.Start(); err != nil {
		return err
	}
	if err := tell(command.Process.Pid); err != nil {
		return err
	}
	return command.Wait()
}

// first keeps containerd running. A line on standard input kills it, and it is started again; the end
// of standard input ends everything.
func first(config, containerd string) error {
	if err := mounts(); err != nil {
		return err
	}
	var lock sync.Mutex
	var pid int
	start := func() error {
		command := exec.Command(containerd, "--config", config)
		command.Stdout, command.Stderr = os.Stderr, os.Stderr
		if err := command.Start(); err != nil {
			return err
		}
		pid = command.Process.Pid
		return nil
	}
	if err := start(); err != nil {
		return err
	}
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			lock.Lock()
			// It may just have ended by itself, which its log tells.
			_ = syscall.Kill(pid, syscall.SIGKILL)
			lock.Unlock()
		}
		os.Exit(0)
	}()
	// Shims are nobody else's children, and end as such.
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("waiting for processes: %w", err)
		}
		lock.Lock()
		if ended == pid {
			fmt.Fprintf(os.Stderr, "containerd ended (%v); starting it again\n", status)
			err = start()
		}
		lock.Unlock()
		if err != nil {
			return err
		}
	}
}

// mounts gives the process namespace its /proc, and the node its cgroups back, which its own /sys hides.
func mounts() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := syscall.Unmount("/sys", syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("unmounting the node's /sys: %w", err)
	}
	return nil
}
