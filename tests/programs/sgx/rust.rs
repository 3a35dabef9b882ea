// SPDX-License-Identifier: Apache-2.0
//! A Rust program builds the enclave, enters it by its own ENCLU, and mends a page fault inside in a signal handler.

use std::arch::asm;
use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

extern "C" {
    fn ioctl(fd: i32, code: u64, argument: *mut c_void) -> i32;
    fn mmap(at: *mut c_void, length: usize, prot: i32, flags: i32, fd: i32, offset: i64) -> *mut c_void;
    fn mprotect(at: *mut c_void, length: usize, prot: i32) -> i32;
    fn sigaction(signal: i32, action: *const Action, old: *mut Action) -> i32;
    static enclave_pieces: [[u64; 3]; 64];
    static enclave_piece_count: u64;
    static enclave_image: [u8; 4096];
    static enclave_sigstruct: [u8; 1808];
    static enclave_tcs: [u64; 4];
}

/// glibc's struct sigaction.
#[repr(C)]
struct Action {
    handler: usize,
    mask: [u64; 16],
    flags: i32,
    restorer: usize,
}

#[repr(C, align(4096))]
struct Secs([u64; 512]);

#[repr(C, align(64))]
struct Secinfo([u64; 8]);

const SIZE: u64 = 0x1000000;
const SIGSEGV: i32 = 11;
const SA_SIGINFO: i32 = 4;
const OP_ADD: u64 = 1;
const OP_WRITE: u64 = 3;
static FAULT: AtomicU64 = AtomicU64::new(0);

extern "C" fn mend(_: i32, info: *const u64, _: *const c_void) {
    let address = unsafe { *info.add(2) };
    FAULT.store(address, Ordering::SeqCst);
    unsafe { mprotect((address & !4095) as *mut c_void, 4096, 3) };
}

fn call<T>(file: &File, code: u64, argument: &mut T) {
    let result = unsafe { ioctl(file.as_raw_fd(), code, (argument as *mut T).cast()) };
    assert_eq!(result, 0, "ioctl {code:#x}: {}", std::io::Error::last_os_error());
}

/// EENTER by hand; the handler's ERESUME comes to the same instruction.
fn enter(tcs: u64, op: u64, a: u64, b: u64, c: u64) -> u64 {
    let mut rax = 2u64;
    unsafe {
        asm!(
            "push rbx", "mov rbx, {tcs}", "lea rcx, [rip + 2f]", "2: .byte 0x0f, 0x01, 0xd7", "pop rbx",
            tcs = in(reg) tcs, inout("rax") rax, out("rcx") _, inout("rdi") op => _, inout("rsi") a => _,
            inout("rdx") b => _, inout("r8") c => _, out("r9") _, out("r10") _, out("r11") _, out("r12") _,
            out("r13") _, out("r14") _, out("r15") _,
        );
    }
    rax
}

fn main() {
    let file = OpenOptions::new().read(true).write(true).open("/dev/sgx_enclave").expect("open");
    let space = unsafe { mmap(std::ptr::null_mut(), 2 * SIZE as usize, 0, 0x22, -1, 0) } as u64;
    let base = (space + SIZE - 1) & !(SIZE - 1);
    let mut secs = Secs([0; 512]);
    (secs.0[0], secs.0[1], secs.0[2], secs.0[6], secs.0[7]) = (SIZE, base, 1, 4, 3);
    call(&file, 0x4008_a400, &mut [&secs as *const Secs as u64]);

    let pieces = unsafe { &enclave_pieces[..enclave_piece_count as usize] };
    let image = &raw const enclave_image as u64;
    for [offset, length, flags] in pieces {
        let secinfo = Secinfo([*flags, 0, 0, 0, 0, 0, 0, 0]);
        let mut add = [image + offset, *offset, *length, &secinfo as *const Secinfo as u64, 1, 0];
        call(&file, 0xc030_a401, &mut add);
        assert_eq!(add[5], *length);
    }
    call(&file, 0x4008_a402, &mut [&raw const enclave_sigstruct as u64]);
    for [offset, length, flags] in pieces {
        let prot = if flags & 0x100 != 0 { 3 } else { flags & 7 };
        let at = (base + offset) as *mut c_void;
        assert_eq!(unsafe { mmap(at, *length as usize, prot as i32, 0x11, file.as_raw_fd(), 0) }, at);
    }

    let tcs = base + unsafe { enclave_tcs[0] };
    let mut sum = 0u64;
    assert_eq!(enter(tcs, OP_ADD, 40, 2, &raw mut sum as u64), 4);
    assert_eq!(sum, 42);
    let action = Action { handler: mend as *const () as usize, mask: [0; 16], flags: SA_SIGINFO, restorer: 0 };
    assert_eq!(unsafe { sigaction(SIGSEGV, &action, std::ptr::null_mut()) }, 0);
    let data = base + pieces[1][0];
    assert_eq!(unsafe { mprotect(data as *mut c_void, 4096, 1) }, 0);
    assert_eq!(enter(tcs, OP_WRITE, data, 5, 0), 4);
    assert_eq!(FAULT.load(Ordering::SeqCst), data);
    println!("EXIT-SUCCESS");
}
