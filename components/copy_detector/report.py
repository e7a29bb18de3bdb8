"""What CopyDetector found, as it is written, and what of it forbids training."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SharedRows(_Part):
    """Rows of the newest month that stand elsewhere too.

    Attributes:
        where: An earlier month, or a pair of files of the newest.
        rows: How many, beyond what chance explains; estimated where rows were sampled.
        by: `identifier`, or `columns`: equal in every column but the label.
    """

    where: str
    rows: int
    by: str


class SameFile(_Part):
    """A file of the newest month whose bytes are those of an earlier month's."""

    file: str
    month: str
    other: str
    share: float


class CopyReport(_Part):
    """What of the newest month stands elsewhere too.

    Attributes:
        month: The newest month.
        compared_with: The others of the window.
        sampled_share: The share of all values that was looked at; figures are estimates where it is below 1.
        rows: Examples of the newest month.
        held_out_rows: Its validation and evaluation examples.
        held_out_in_training: How many of them stand in training, beyond what chance explains.
        held_out_equal: How many equal a training example in every column but identifier and label, by chance or not.
        shared: Rows that stand in an earlier month, or in two files.
        same_files: Files that are an earlier month's.
    """

    month: str
    compared_with: tuple[str, ...]
    sampled_share: float
    rows: int
    held_out_rows: int
    held_out_in_training: int
    held_out_equal: int
    shared: tuple[SharedRows, ...] = ()
    same_files: tuple[SameFile, ...] = ()

    def describe(self) -> list[str]:
        """What a person should know, a line each; nothing where nothing is shared."""
        lines = [self._shared(found) for found in self.shared]
        lines += [f"{found.file} is {found.other} of {found.month} once more." for found in self.same_files]
        if self.held_out_in_training:
            lines.append(self._leak())
        return lines

    def refusals(self, max_share: float) -> list[str]:
        """What of it is more than may be, a line each.

        Args:
            max_share: The share of rows, and of held-out rows, that may be shared.
        """
        beyond = f"more than ingestion.max_copied_share, {max_share:.2%}"
        many = max_share * self.rows
        lines = [f"{self._shared(found)} This is {beyond}." for found in self.shared if found.rows > many]
        lines += [
            f"{found.file} is {found.other} of {found.month} once more, {found.share:.2%} of the month, {beyond}."
            for found in self.same_files
            if found.share > max_share
        ]
        if self.held_out_in_training > max_share * self.held_out_rows:
            lines.append(f"{self._leak()} This is {beyond}: the evaluation would flatter the model.")
        return lines

    def _about(self, rows: int) -> str:
        return f"{rows:,}" if self.sampled_share >= 1 else f"about {rows:,}"

    def _shared(self, found: SharedRows) -> str:
        how = "the same identifier" if found.by == "identifier" else "the same values in every column but the label"
        share = f" ({found.rows / self.rows:.2%})" if self.rows else ""
        return f"{self._about(found.rows)} of {self.rows:,} rows{share} stand in {found.where} too, with {how}."

    def _leak(self) -> str:
        return (
            f"{self._about(self.held_out_in_training)} of {self.held_out_rows:,} held-out rows "
            f"({self.held_out_in_training / max(self.held_out_rows, 1):.2%}) stand in training too."
        )
