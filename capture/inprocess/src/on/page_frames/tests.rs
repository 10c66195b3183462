//! Tests of physical frames, as root and as an ordinary user.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::ptr;

use super::*;

/// What the child of `an_ordinary_user_is_not_permitted` is told by, so that it knows that it is one.
const AS_ORDINARY_USER: &str = "PAGETRACE_TEST_AS_ORDINARY_USER";

fn is_root() -> bool {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A new page, of a file or of none. The test process keeps it.
fn map_page(file: i32) -> *mut u8 {
    let flags = if file < 0 { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS } else { libc::MAP_SHARED };
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: at an address of the kernel's choice.
    let page = unsafe { libc::mmap(ptr::null_mut(), sys::PAGE_BYTES, protection, flags, file, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    page.cast()
}

#[test]
fn a_locked_page_has_a_frame_that_stays() {
    if !is_root() {
        println!("skipped: not root");
        return;
    }
    let page = map_page(-1);
    // SAFETY: our own page.
    assert_eq!(unsafe { libc::mlock(page.cast(), sys::PAGE_BYTES) }, 0);
    let frame = frame_of(page.addr()).expect("root is told");
    assert_ne!(frame, PageFrame(0));
    assert_eq!(frame_of(page.addr() + sys::PAGE_BYTES - 1), Ok(frame), "any address in the page");
    std::thread::yield_now();
    assert_eq!(frame_of(page.addr()), Ok(frame));
}

#[test]
fn two_mappings_of_one_page_have_one_frame_and_another_page_has_another() {
    if !is_root() {
        println!("skipped: not root");
        return;
    }
    // SAFETY: a valid C string.
    let file = unsafe { libc::memfd_create(c"page".as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: our own descriptor.
    assert_eq!(unsafe { libc::ftruncate(file, sys::PAGE_BYTES as libc::off_t) }, 0);
    let (first, second, other) = (map_page(file), map_page(file), map_page(-1));
    for page in [first, second, other] {
        // SAFETY: our own pages.
        unsafe { page.write_volatile(1) };
    }
    let frame = frame_of(first.addr()).expect("root is told");
    assert_eq!(frame_of(second.addr()), Ok(frame));
    assert_ne!(frame_of(other.addr()).expect("root is told"), frame);
}

#[test]
fn what_is_not_in_memory_has_no_frame() {
    let untouched = map_page(-1);
    assert_eq!(frame_of(untouched.addr()), Err(FrameError::NotResident));
    assert_eq!(frame_of(0), Err(FrameError::NotResident));
    assert_eq!(frame_of(1 << 50), Err(FrameError::NotResident), "above a user's addresses");
    assert_eq!(frame_of(usize::MAX), Err(FrameError::NotResident), "the kernel's");
}

#[test]
fn swapped_pages_are_not_resident() {
    assert_eq!(frame_in(1 << 62 | 0x1234), Err(FrameError::NotResident));
    assert_eq!(frame_in(PRESENT | 1 << 61 | 0x1234), Ok(PageFrame(0x1234)), "of a file, present");
}

#[test]
fn an_ordinary_user_is_not_permitted() {
    if !is_root() {
        let here = 1_u8;
        assert_eq!(frame_of(ptr::from_ref(&here).addr()), Err(FrameError::NotPermitted));
        return;
    }
    assert!(std::env::var_os(AS_ORDINARY_USER).is_none(), "setpriv left the test root");
    // The build's directory may be closed to others, so a copy is run.
    let directory = std::env::temp_dir().join(format!("pagetrace-frames-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a temporary directory");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("our own directory");
    let test = directory.join("test");
    fs::copy(std::env::current_exe().expect("the test"), &test).expect("room for a copy of the test");
    let name = std::thread::current().name().expect("the harness names threads after tests").to_owned();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&test)
        .args(["--exact", &name, "--test-threads=1"])
        .env(AS_ORDINARY_USER, "1")
        .current_dir("/")
        .output();
    fs::remove_dir_all(&directory).expect("our own directory");
    let output = output.expect("setpriv, of util-linux");
    let text = String::from_utf8_lossy(&output.stdout);
    let told = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{told}");
}
