use super::assembler::{
    ALLOW, AND, ARCHITECTURE, FAIL, HAND_OVER, Instruction, JUMP, JUMP_ANY_BIT, JUMP_EQUAL, JUMP_NOT_BELOW, LOAD,
    NUMBER, RETURN, argument, program,
};
use super::calls::{CALLS, COLUMNS};
use super::*;

const DENIED: u32 = FAIL | 1;
const MISSING: u32 = FAIL | 38;

/// Runs a filter as the kernel does.
fn run(program: &[Instruction], audit: u32, number: u32, arguments: [u32; 3]) -> u32 {
    let (mut at, mut accumulator) = (0usize, 0u32);
    loop {
        let instruction = program[at];
        at += 1;
        let jump = |taken: bool| usize::from(if taken { instruction.if_true } else { instruction.if_false });
        match instruction.code {
            LOAD => {
                accumulator = match instruction.constant {
                    NUMBER => number,
                    ARCHITECTURE => audit,
                    offset if offset == argument(0) => arguments[0],
                    offset if offset == argument(1) => arguments[1],
                    offset if offset == argument(2) => arguments[2],
                    other => panic!("load from {other}"),
                }
            }
            AND => accumulator &= instruction.constant,
            JUMP => at += usize::try_from(instruction.constant).unwrap(),
            JUMP_EQUAL => at += jump(accumulator == instruction.constant),
            JUMP_NOT_BELOW => at += jump(accumulator >= instruction.constant),
            JUMP_ANY_BIT => at += jump(accumulator & instruction.constant != 0),
            RETURN => return instruction.constant,
            other => panic!("operation {other}"),
        }
    }
}

fn number_of(name: &str, architecture: Architecture) -> Option<u32> {
    let column = COLUMNS.iter().position(|known| *known == architecture).unwrap();
    CALLS.iter().find(|(_, known, _)| *known == name).and_then(|(_, _, numbers)| u32::try_from(numbers[column]).ok())
}

#[test]
fn every_call_of_every_architecture_ends_as_the_profile_says() {
    for architecture in COLUMNS {
        let program = program(&[architecture], CapabilitySet::DOCKER_DEFAULT, false);
        assert!(program.len() < 4096, "the kernel takes 4096 instructions");
        let result = |name: &str, first: u32| {
            number_of(name, architecture).map(|number| run(&program, architecture.audit(), number, [first; 3]))
        };
        for allowed in
            ["read", "openat", "execve", "ptrace", "futex", "exit_group", "setresuid", "capset", "chroot", "mknodat"]
        {
            assert_eq!(result(allowed, 0), Some(ALLOW), "{allowed} on {architecture:?}");
        }
        for denied in
            ["mount", "bpf", "init_module", "reboot", "setns", "unshare", "open_by_handle_at", "perf_event_open"]
        {
            assert_eq!(result(denied, 0), Some(DENIED), "{denied} on {architecture:?}");
        }
        assert_eq!(result("clone3", 0), Some(MISSING));
        assert_eq!(result("clone", 0x0120_0011), Some(ALLOW));
        assert_eq!(result("clone", 0x1000_0011), Some(DENIED));
        assert_eq!(result("personality", 0), Some(ALLOW));
        assert_eq!(result("personality", 0x40000), Some(DENIED));
        assert_eq!(result("socket", 2), Some(ALLOW));
        assert_eq!(result("socket", 39), Some(ALLOW));
        assert_eq!(result("socket", 40), Some(DENIED));
        assert_eq!(result("socket", 38), Some(DENIED));
        let newer = run(&program, architecture.audit(), 1_000_000_000, [0; 3]);
        assert_eq!(newer, MISSING);
        assert_eq!(run(&program, 0x1234, 0, [0; 3]), MISSING, "an architecture that is none of ours");
        // Exactly the profile's calls are allowed.
        for number in 0..1024 {
            let allowed = run(&program, architecture.audit(), number, [0; 3]) == ALLOW;
            let column = COLUMNS.iter().position(|known| *known == architecture).unwrap();
            let listed = CALLS.iter().any(|(rule, _, numbers)| {
                let kept = match rule {
                    rules::Rule::With(capability) => CapabilitySet::DOCKER_DEFAULT.has(*capability),
                    rules::Rule::Clone3 => false,
                    _ => true,
                };
                kept && u32::try_from(numbers[column]) == Ok(number)
            });
            assert_eq!(allowed, listed, "{number} on {architecture:?}");
        }
    }
}

#[test]
fn capabilities_open_calls() {
    let all = CapabilitySet(u64::MAX);
    let program = program(&[Architecture::X86_64, Architecture::X86], all, false);
    for name in ["mount", "bpf", "clone3", "unshare", "reboot"] {
        for architecture in [Architecture::X86_64, Architecture::X86] {
            let number = number_of(name, architecture).unwrap();
            assert_eq!(run(&program, architecture.audit(), number, [0x1000_0000, 0, 0]), ALLOW, "{name}");
        }
    }
}

#[test]
fn both_architectures_of_a_host_have_their_own_numbers() {
    let program = program(&[Architecture::X86_64, Architecture::X86], CapabilitySet::DOCKER_DEFAULT, false);
    // 165 is mount on amd64 and getresuid on 386.
    assert_eq!(run(&program, Architecture::X86_64.audit(), 165, [0; 3]), DENIED);
    assert_eq!(run(&program, Architecture::X86.audit(), 165, [0; 3]), ALLOW);
    assert_eq!(run(&program, Architecture::X86_64.audit(), 0x4000_0000, [0; 3]), MISSING);
}

#[test]
fn making_devices_is_handed_over_and_nothing_else() {
    for architecture in COLUMNS {
        let program = program(&[architecture], CapabilitySet::DOCKER_DEFAULT, true);
        for (name, index) in [("mknod", 1), ("mknodat", 2)] {
            let Some(number) = number_of(name, architecture) else { continue };
            assert!(device_call(architecture.audit(), number).is_some());
            for (mode, expected) in
                [(0o020_666, HAND_OVER), (0o060_600, HAND_OVER), (0o010_666, ALLOW), (0o100_644, ALLOW), (0o644, ALLOW)]
            {
                let mut arguments = [0; 3];
                arguments[index] = mode;
                assert_eq!(run(&program, architecture.audit(), number, arguments), expected, "{name} {mode:o}");
            }
        }
        let mount = number_of("mount", architecture).unwrap();
        assert_eq!(run(&program, architecture.audit(), mount, [0; 3]), DENIED);
    }
    assert_eq!(device_call(0, 0), None);
}
