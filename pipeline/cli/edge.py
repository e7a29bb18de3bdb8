"""`adclick edge …`: screens that recognise what they show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Screens: bundles by which a device recognises what it shows.", no_args_is_help=True)


@app.command()
def keys(
    output: Annotated[Path, typer.Option(help="The folder of private.pem, which signs, and public.pem, for devices.")],
) -> None:
    """Make the key pair that signs bundles and channels."""
    from adclick.pipeline.edge.export import create_key_files

    private, public = create_key_files(output)
    print(f"{private}\n{public}")


@app.command()
def export(
    creatives: Annotated[
        str, typer.Option(help="A CSV file: id, image, and name, valid_from, valid_until, forbidden where it matters.")
    ],
    key: Annotated[Path, typer.Option(help="The private key, see `adclick edge keys`.")],
    output: Annotated[str, typer.Option(help="The bundle's file, here or in a bucket.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="The config whose newest recogniser is taken.")
    ] = None,
    recogniser: Annotated[str | None, typer.Option(help="Or the folder of a recogniser's version.")] = None,
    version: Annotated[int | None, typer.Option(min=1, help="Its number; seconds since 1970 by default.")] = None,
    created: Annotated[
        int | None, typer.Option(min=0, help="Seconds since 1970; SOURCE_DATE_EPOCH or now by default.")
    ] = None,
    scorer: Annotated[
        bool, typer.Option(help="Add the config's newest click model, where one was pushed, for `adclick-edge score`.")
    ] = True,
) -> None:
    """Make a bundle for devices: recogniser, creatives, scorer, signed; the same inputs give the same bytes.

    It warns of a forbidden creative that may be taken for a permitted one.
    """
    from adclick.pipeline.cli.options import tell
    from adclick.pipeline.edge.export import run_export

    made = run_export(
        config,
        creatives=creatives,
        key=key,
        output=output,
        recogniser=recogniser,
        version=version,
        created=created,
        with_scorer=scorer,
    )
    for creative in made.unscored:
        tell(f"warning: the click model cannot take the picture of {creative}; ads with it are scored without")
    for forbidden, permitted in made.alike:
        tell(f"warning: the forbidden creative {forbidden} may be taken for {permitted}, which is not forbidden")
    print(
        f"{output}: version {made.version}, {made.creatives} creatives, {made.forbidden} forbidden, {made.size} bytes, "
        + (f"scores ads by click model {made.click_model}" if made.click_model else "scores no ads")
    )
    print(f"sha256 {made.sha256}")


@app.command()
def publish(
    bundle: Annotated[Path, typer.Option(help="The bundle's file, see `adclick edge export`.")],
    to: Annotated[str, typer.Option(help="The folder that devices look at: here, gs://… or s3://….")],
    key: Annotated[
        Path, typer.Option(help="The private key, which signs the channel's file; see `adclick edge keys`.")
    ],
    channel: Annotated[str, typer.Option(help="Which devices look at it, such as stable or beta.")] = "stable",
    share: Annotated[
        float, typer.Option(min=0, max=100, help="The share of devices that take it, in percent; 0 takes it back.")
    ] = 100.0,
    public_key: Annotated[
        list[Path] | None, typer.Option(help="Who else may have signed the bundle and the channel's last file.")
    ] = None,
) -> None:
    """Hand a bundle to a share of the devices that look at a channel; again with a greater share for more of them."""
    from adclick.pipeline.edge.publish import run_publish

    published = run_publish(bundle, to=to, channel=channel, share=share, key=key, public_keys=public_key or ())
    for release in published.releases:
        print(f"{published.file}: version {release.version} for {release.share:g} % of the devices: {release.address}")


@app.command()
def clean(
    to: Annotated[str, typer.Option(help="The folder that devices look at: here, gs://… or s3://….")],
    keep: Annotated[int, typer.Option(min=0, help="How many bundles stay that no channel names, the newest.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")] = False,
) -> None:
    """Delete old bundles that no channel names any more."""
    from adclick.pipeline.edge.cleaning import clean_channels

    cleaned = clean_channels(to, keep=keep, dry_run=dry_run)
    for address in cleaned.deleted:
        print(f"  {address}")
    print(
        f"{'Would delete' if dry_run else 'Deleted'} {len(cleaned.deleted)} bundles, {cleaned.size / 2**20:,.1f} MiB; "
        f"{cleaned.named} that channels name and {cleaned.kept} more stay."
    )
    if cleaned.strange:
        print(f"Left alone, as no bundles: {', '.join(cleaned.strange)}")


@app.command()
def devices(
    reports: Annotated[
        Path | None, typer.Option(help="The gateway's edge.reports_file, or a folder of reports that was collected.")
    ] = None,
    gateway: Annotated[str | None, typer.Option(help="Or the gateway's address.")] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="ADCLICK_API_KEY", help="The API key, where the gateway asks for one.")
    ] = None,
    silent_minutes: Annotated[float, typer.Option(min=0, help="A device that is silent for longer is marked.")] = 15.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List devices: when each was last seen, what it runs, what it sees, and its alerts."""
    from adclick.pipeline.edge.devices import run_devices

    run_devices(reports, gateway=gateway, api_key=api_key, silent_minutes=silent_minutes, as_json=as_json)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where screen, bundle and log are left.")] = Path("output/edge-demo"),
    config: Annotated[
        Path | None, typer.Option("--config", help="Take this config's newest recogniser, not a template of 16 x 16.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=4, help="For how long.")] = 12.0,
) -> None:
    """Show a screen that is hijacked after a while; the device's runtime watches it and raises the alert."""
    from adclick.pipeline.edge.demo import run_demo

    run_demo(output, config=config, seconds=seconds)
