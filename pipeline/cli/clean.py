"""`adclick clean`."""

from __future__ import annotations

from typing import Annotated

import typer

from adclick.pipeline.cli.options import ConfigOption, WaitOption, tell


def clean(
    context: typer.Context,
    config: ConfigOption,
    keep_versions: Annotated[int, typer.Option(min=1, help="Pushed versions to keep, the served one included.")] = 5,
    keep_runs: Annotated[int, typer.Option(min=1, help="Runs whose artifacts stay, for reuse and for looking.")] = 12,
    keep_creatives: Annotated[
        int, typer.Option(min=1, help="Days that a decoded creative stays that no run has met.")
    ] = 180,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")] = False,
    wait: WaitOption = False,
) -> None:
    """Delete old versions and artifacts, never what is served, a baseline, or what a kept version was made from."""
    from adclick.pipeline.config.settings import check_local_output, load_config
    from adclick.pipeline.console import noise_to_temporary, result_console
    from adclick.storage.folder_lock import SEARCH_LOCK, FolderLock

    settings = load_config(config)
    check_local_output(settings)
    if not dry_run:
        # A run that goes on writes artifacts that no record names yet, and a search reads some.
        context.with_resource(FolderLock(settings.output, command="clean", waits=wait, tell=tell))
        context.with_resource(FolderLock(settings.output, name=SEARCH_LOCK, command="clean", waits=wait, tell=tell))
    with noise_to_temporary("clean") as real:
        from adclick.pipeline.runs import cleaning
        from adclick.storage.model_versions import ModelVersions

        with ModelVersions(settings.push_base).changing():
            plan = cleaning.plan_cleaning(settings, keep_versions, keep_runs)
            if not dry_run:
                cleaning.clean(settings, plan)
        creatives, trouble = cleaning.forget_creatives(settings, keep_creatives, dry_run=dry_run)
        result_console(real).print(
            f"{'Would delete' if dry_run else 'Deleted'} {len(plan.versions)} versions and "
            f"{len(plan.artifacts)} artifacts, {plan.size / 2**20:,.1f} MiB, and {creatives:,} decoded creatives.",
            *((plan.versions + plan.artifacts) if dry_run else ()),
            *trouble,
            sep="\n  ",
            highlight=False,
            soft_wrap=True,
        )
