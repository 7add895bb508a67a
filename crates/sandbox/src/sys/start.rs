//! Running code before `main`, for test programs whose `main` belongs to the test harness.

/// Called by the loader before `main` when the feature `test-init` is on: a test program that starts sandboxes is then also their init, and
/// one that was started with this variable enters a user namespace before the harness has threads.
#[cfg(feature = "test-init")]
extern "C" fn before_main() {
    crate::init_if_requested();
    let wanted = std::env::var_os("ONETAG_TEST_USER_NAMESPACE").is_some();
    if let (true, Err(error)) = (wanted, wanted.then(crate::enter_user_namespace).transpose()) {
        eprintln!("{error}");
        super::exit_now(1);
    }
}

// SAFETY: the section holds pointers to functions that the C library calls once, before `main`; the standard library's arguments are set up
// by an earlier entry of the same section.
#[cfg(feature = "test-init")]
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

/// Keeps the entry above linked.
pub(crate) fn run_at_start() {
    #[cfg(feature = "test-init")]
    std::hint::black_box(&BEFORE_MAIN);
}
