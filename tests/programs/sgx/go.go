// SPDX-License-Identifier: Apache-2.0

// A Go program, which makes its system calls itself, builds an enclave and maps it. The argument is a folder with
// the enclave's image, pieces and sigstruct.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"
)

const size = 0x1000000

func read(name string) []byte {
	data, err := os.ReadFile(filepath.Join(os.Args[1], name))
	if err != nil {
		panic(err)
	}
	return data
}

func ioctl(fd int, code uintptr, argument unsafe.Pointer) syscall.Errno {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), code, uintptr(argument))
	return errno
}

func works(errno syscall.Errno) {
	if errno != 0 {
		panic(errno)
	}
}

func mmap(at, length, prot, flags uintptr, fd int) uintptr {
	found, _, errno := syscall.Syscall6(syscall.SYS_MMAP, at, length, prot, flags, uintptr(fd), 0)
	works(errno)
	return found
}

func main() {
	image, pieces, sigstruct := read("image"), read("pieces"), read("sigstruct")
	fd, err := syscall.Open("/dev/sgx_enclave", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	space := mmap(0, 2*size, syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON, -1)
	base := (space + size - 1) &^ (size - 1)
	// The driver wants the source on a page's boundary; what the collector might move or free is not that.
	source := mmap(0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON, -1)
	copy(unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(nil), source)), size), image)

	secs := new([512]uint64)
	secs[0], secs[1], secs[2], secs[6], secs[7] = size, uint64(base), 1, 4, 3
	create := [1]uint64{uint64(uintptr(unsafe.Pointer(secs)))}
	works(ioctl(fd, 0x4008a400, unsafe.Pointer(&create)))
	if errno := ioctl(fd, 0x4008a400, unsafe.Pointer(&create)); errno != syscall.EINVAL {
		panic(errno)
	}
	for i := 0; i < len(pieces); i += 24 {
		offset := binary.LittleEndian.Uint64(pieces[i:])
		length := binary.LittleEndian.Uint64(pieces[i+8:])
		secinfo := new([8]uint64)
		secinfo[0] = binary.LittleEndian.Uint64(pieces[i+16:])
		add := [6]uint64{uint64(source) + offset, offset, length, uint64(uintptr(unsafe.Pointer(secinfo))), 1, 0}
		works(ioctl(fd, 0xc030a401, unsafe.Pointer(&add)))
		if add[5] != length {
			panic("count")
		}
		runtime.KeepAlive(secinfo)
	}
	init := [1]uint64{uint64(uintptr(unsafe.Pointer(&sigstruct[0])))}
	works(ioctl(fd, 0x4008a402, unsafe.Pointer(&init)))
	runtime.KeepAlive(secs)
	runtime.KeepAlive(sigstruct)
	for i := 0; i < len(pieces); i += 24 {
		offset := uintptr(binary.LittleEndian.Uint64(pieces[i:]))
		length := uintptr(binary.LittleEndian.Uint64(pieces[i+8:]))
		flags := uintptr(binary.LittleEndian.Uint64(pieces[i+16:]))
		prot := flags & 7
		if flags&0x100 != 0 {
			prot = syscall.PROT_READ | syscall.PROT_WRITE
		}
		at := mmap(base+offset, length, prot, syscall.MAP_SHARED|syscall.MAP_FIXED, fd)
		if at != base+offset {
			panic("mmap")
		}
	}
	runtime.GC()
	fmt.Println("EXIT-SUCCESS")
}
