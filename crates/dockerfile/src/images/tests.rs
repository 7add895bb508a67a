use super::*;

const DIGEST: &str = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn found(text: &str) -> Vec<NamedImage> {
    images(text.as_bytes(), &ImageOptions::default()).unwrap()
}

/// The text with a digest behind every name that can have one.
fn pinned(text: &str) -> String {
    let mut result = text.as_bytes().to_vec();
    let mut sites: Vec<Range<usize>> = images(text.as_bytes(), &ImageOptions::default())
        .unwrap()
        .into_iter()
        .filter_map(|image| image.site.ok())
        .collect();
    sites.sort_by_key(|site| std::cmp::Reverse(site.start));
    sites.dedup();
    for site in sites {
        result.splice(site, DIGEST.bytes());
    }
    String::from_utf8(result).unwrap()
}

#[test]
fn digests_go_behind_names_whatever_stands_around_them() {
    for text in [
        "FROM alpine:3|\n",
        "from alpine:3| as x\r\nRUN a\r\n",
        "\u{feff}FROM alpine:3|",
        "# é\n  FROM   --platform=$BUILDPLATFORM\talpine:3|  AS  x # no comment\n".trim_end_matches(" # no comment\n"),
        "FROM \\\n  # between\n  alpine:3|\\\n  AS x\n",
        "FROM \"alpine:3|\" AS x\n",
        "# escape=`\nFROM `\r\nalpine:3| `\r\n AS x\n",
        "FROM a:1| AS é\n".replace('é', "e").as_str(),
        "FROM scratch\nCOPY --from=alpine:3| /a /b\n",
        "FROM scratch\nCOPY --chown=é --from='alpine:3|' --link /a \\\n /b\n",
        "FROM scratch\nRUN --mount=type=bind,from=alpine:3|,target=/x \\\n  --mount=\"target=/y,FROM=b:2|\" true\n",
        "FROM scratch\nRUN --mount='\"from=alpine:3|\",target=/x' true\n",
        "FROM scratch\nONBUILD COPY --from=alpine:3| /a /b\n",
        "FROM scratch\nRUN <<EOF\nFROM alpine:3\nEOF\nCOPY --from=alpine:3| <<X /x\nFROM y\nX\n",
        "FROM scratch\nCOPY --from=alpine:3| [\"a\", \"b\"]\n",
        "ARG BASE=alpine:3|\nFROM $BASE\nFROM ${BASE} AS b\n",
        "ARG BASE=\"alpine:3|\"\nFROM --platform=linux/arm64 ${BASE}\nARG BASE\n",
        "ARG TAG=3|\nFROM alpine:${TAG}\n",
        "ARG REG=docker.io/library\nFROM ${REG}/alpine:3|\n",
        "ARG REG\nFROM ${REG}alpine:3|\n",
        "FROM ${BASE:-alpine:3|} AS x\n",
        "ARG TAG=3|\nARG FULL=alpine:$TAG\nFROM ${FULL}\n",
        "FROM localhost:5000/a/b:1|\nFROM localhost:5000/c|\n",
    ] {
        let plain = text.replace('|', "");
        let expected = text.replace('|', DIGEST);
        assert_eq!(pinned(&plain), expected, "{text:?}");
        // What has a digest gets the new one in its place.
        assert_eq!(pinned(&expected), expected, "{text:?}");
        for image in found(&expected) {
            assert!(image.reference.as_ref().is_ok_and(|reference| reference.digest().is_some()), "{image:?}");
        }
    }
}

#[test]
fn stages_contexts_and_scratch_are_no_images() {
    let text = "FROM a:1 AS Build\nFROM build\nFROM scratch\nCOPY --from=BUILD / /\nCOPY --from=0 / /\n\
                RUN --mount=from=later,target=/x y\nFROM ctx AS later\nFROM ctx:latest\nCOPY --from=other / /\n";
    let options =
        ImageOptions { contexts: ["ctx".into(), "other::linux/arm64".into()].into(), ..ImageOptions::default() };
    let names: Vec<String> =
        images(text.as_bytes(), &options).unwrap().into_iter().map(|image| image.written).collect();
    assert_eq!(names, ["a:1"]);
    let text = "FROM a:1 AS base-amd64\nFROM b:1 AS base-arm64\nFROM base-${TARGETARCH}\n";
    assert_eq!(found(text).len(), 2);
}

#[test]
fn what_cannot_be_pinned_says_why() {
    let reason = |text: &str| match &found(text).last().unwrap().site {
        Ok(site) => format!("{site:?}"),
        Err(obstacle) => obstacle.to_string(),
    };
    assert!(reason("ARG BASE\nFROM $BASE\n").contains("BASE has no value"));
    assert!(reason("FROM alpine:${TAG}\n").contains("TAG has no value"));
    assert!(reason("FROM base-${TARGETARCH}:1\n").contains("TARGETARCH makes it another image"));
    assert!(reason("ARG A=3\nARG B=20\nFROM alpine:$A.$B\n").contains("A is a part of it"));
    assert!(reason("ARG TAG=3\nFROM alpine:$TAG-slim\n").contains("TAG is a part of it"));
    assert!(reason("ARG TAG=3\nFROM a:$TAG\nFROM b:$TAG\n").contains("TAG is used on line 2"));
    assert!(reason("ARG TAG=3\nFROM a:$TAG\nARG TAG\n").contains("TAG is used on line 3"));
    assert!(reason("ARG V=3\nFROM alpine:$V-$V\n").contains("V is"));
    assert!(reason("ARG V=3-x\nFROM alpine:${V%-x}\n").contains("hides"));
    assert!(reason("FROM scratch\nONBUILD COPY --from=build / /\n").contains("trigger"));
    assert!(
        reason("FROM al\\\npine:3@sha256:0123456789abcdef0123456789abcdef\\\n0123456789abcdef0123456789abcdef\n")
            .contains("one piece")
    );
    assert!(found("FROM Upper\n")[0].reference.as_ref().is_err_and(Obstacle::is_error));
    // A name whose place is not sound is still a name.
    assert_eq!(found("ARG V=3-x\nFROM alpine:${V%-x}\n")[0].reference.as_ref().unwrap().familiar(), "alpine:3");
    let options = ImageOptions { build_args: [("BASE".into(), "a:1".into())].into(), ..ImageOptions::default() };
    let given = images(b"ARG BASE=b:1\nFROM $BASE\n", &options).unwrap();
    assert_eq!(given[0].reference.as_ref().unwrap().familiar(), "a:1");
    assert!(matches!(given[0].site, Err(Obstacle::Given { .. })));
}

#[test]
fn places_and_platforms_are_told() {
    let text = "FROM scratch\nFROM --platform=linux/arm/v7 a:1\nFROM --platform=$BUILDPLATFORM b:1\nCOPY \\\n --from=c:1 / /\n";
    let seen: Vec<String> = found(text)
        .iter()
        .map(|image| format!("{} {} {} {:?}", image.position, image.instruction, image.written, image.platform))
        .collect();
    assert!(seen[0].starts_with("2:30 FROM a:1 Fixed("), "{seen:?}");
    assert_eq!(seen[1], "3:32 FROM b:1 Build");
    assert_eq!(seen[2], "5:9 COPY --from c:1 Target");
}

#[test]
fn bytes_that_are_no_text_stay_and_count() {
    let text = b"FROM scratch\nLABEL a=\xff\xfe\nCOPY --chown=\xff --from=a:1 x /y\n";
    let image = &images(text, &ImageOptions::default()).unwrap()[0];
    let site = image.site.clone().unwrap();
    assert_eq!(&text[..site.start], &b"FROM scratch\nLABEL a=\xff\xfe\nCOPY --chown=\xff --from=a:1"[..]);
}
