//! Images of more layers than overlayfs takes options for: they are mounted, changed, saved as a layer more, and run.

use onetag_testkit::require;
use onetag_testkit::user::User;

use crate::support::{World, native_and_foreign};

#[test]
fn images_of_128_and_of_600_layers_are_mounted_and_committed() {
    let world = require!(ok World::root());
    many_layers(&world);
}

#[test]
fn an_ordinary_user_mounts_them_as_well() {
    let world = World::new(require!(ok User::ordinary()));
    many_layers(&world);
}

fn many_layers(world: &World) {
    let (native, _) = native_and_foreign();
    let base = require!(ok world.push_base(&[native]));
    // one of the base, one that the step commits
    for count in [126, 598] {
        let copies: String = (0..count).map(|number| format!("COPY f /layers/{number}\n")).collect();
        let step = "RUN ls /layers | wc -l > /count && rm /layers/0 && echo changed > /layers/1";
        let context = world.context("app", &format!("FROM {base}\n{copies}{step}\n"), &[("f", "content\n")]);
        let name = format!("many:{count}");
        let network = "--allow network.host --network host";
        world.onetag.ok(&format!("build --quiet {network} --load -t {name} {context}"));
        let layers = world.onetag.run(["image", "inspect", "--format", "{{len .RootFS.Layers}}", &name]).success();
        assert_eq!(layers.text().trim(), (count + 2).to_string());
        let shown = world.onetag.run(["run", "--rm", &name, "sh", "-c", "cat /count /layers/1; ls /layers | wc -l"]);
        assert_eq!(shown.success().text(), format!("{count}\nchanged\n{}\n", count - 1));
    }
}
