//! Networks.

use onetag_sandbox::{Error, Network, NetworkMode};
use onetag_testkit::require;

use crate::support::{Room, run, search_path};

#[test]
fn none_has_only_the_loopback_interface() {
    let room = require!(ok Room::new());
    let mut spec = room
        .spec("busybox ip -o addr | busybox awk '{print $2, $4}'; busybox ping -c1 127.0.0.1 >/dev/null && echo up");
    spec.network = NetworkMode::None;
    assert_eq!(run(&spec).unwrap().stdout, "lo 127.0.0.1/8\nlo ::1/128\nup\n");
}

#[test]
fn a_networks_processes_share_it_and_it_ends_with_the_handle() {
    let room = require!(ok Room::new());
    let handle = match Network::start(&search_path()) {
        Ok(handle) => handle,
        Err(error) => {
            assert!(matches!(error, Error::Denied { .. }) && error.hint().is_some(), "{error}");
            require!(
                !std::path::Path::new("/dev/net/tun").exists()
                    || std::fs::File::options().write(true).open("/dev/net/tun").is_err(),
                "{error}"
            );
            return;
        }
    };
    let script = "busybox ip -o link | busybox awk '{print $2}' | busybox grep -v lo: ; cat /etc/resolv.conf; readlink /proc/self/ns/net";
    let mut spec = room.spec(script);
    spec.network = NetworkMode::Shared(handle.clone());
    let first = run(&spec).unwrap().success();
    spec.rootfs = room.rootfs();
    let second = run(&spec).unwrap().success();
    assert_eq!(first, second);
    assert!(first.contains("nameserver"), "{first}");
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert!(!first.contains(own.to_str().unwrap()));
}
