"""Prints the SQL by which SQLModel makes the table `tasks`, from the model as projects write it.

It is what `SQLModel.metadata.create_all` sends to PostgreSQL, taken down instead of sent.
"""

from datetime import datetime

from sqlalchemy import create_mock_engine
from sqlmodel import Field, SQLModel


class Task(SQLModel, table=True):
    __tablename__ = "tasks"

    id: int | None = Field(default=None, primary_key=True)
    user_id: str = Field(index=True)
    title: str = Field(max_length=255)
    description: str | None = Field(default=None)
    completed: bool = Field(default=False)
    created_at: datetime = Field(default_factory=datetime.utcnow)
    updated_at: datetime = Field(default_factory=datetime.utcnow)


def take_down(statement, *_args, **_kwargs):
    lines = str(statement.compile(dialect=engine.dialect)).strip().splitlines()
    print("\n".join(line.replace("\t", "    ").rstrip() for line in lines) + ";")


engine = create_mock_engine("postgresql://", take_down)
SQLModel.metadata.create_all(engine, checkfirst=False)
