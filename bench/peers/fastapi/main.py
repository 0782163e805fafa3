"""The service as projects write it: FastAPI, SQLModel and asyncpg, tokens by PyJWT.

It follows the documentation of FastAPI and SQLModel, with an asynchronous session, and has only the routes that the
bench uses. DB_POOL_SIZE is the number of connections of all worker processes together.
"""

import os
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, HTTPException, Query, Response, status
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Column, DateTime
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlmodel import Field, SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

WORKERS = int(os.environ["WEB_CONCURRENCY"])
SECRET = os.environ["BETTER_AUTH_SECRET"]

engine = create_async_engine(
    os.environ["NEON_DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://", 1),
    pool_size=int(os.environ["DB_POOL_SIZE"]) // WORKERS,
    max_overflow=0,
)
async_session = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)

app = FastAPI(title="Todo API")
app.add_middleware(
    CORSMiddleware,
    allow_origins=["http://localhost:3000"],
    allow_credentials=True,
    allow_methods=["*"],
    allow_headers=["*"],
)


def now() -> datetime:
    return datetime.now(UTC)


class Task(SQLModel, table=True):
    __tablename__ = "tasks"

    id: int | None = Field(default=None, primary_key=True)
    user_id: str = Field(index=True)
    title: str
    description: str | None = None
    completed: bool = False
    created_at: datetime = Field(default_factory=now, sa_column=Column(DateTime(timezone=True), nullable=False))
    updated_at: datetime = Field(default_factory=now, sa_column=Column(DateTime(timezone=True), nullable=False))


class TaskCreate(SQLModel):
    title: str = Field(min_length=1, max_length=255)
    description: str | None = Field(default=None, max_length=10_000)
    completed: bool = False


class TaskComplete(SQLModel):
    completed: bool


class TaskRead(SQLModel):
    id: int
    user_id: str
    title: str
    description: str | None
    completed: bool
    created_at: datetime
    updated_at: datetime


async def get_session() -> AsyncGenerator[AsyncSession, None]:
    async with async_session() as session:
        yield session


async def get_current_user(
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
) -> str:
    unauthorized = HTTPException(
        status_code=status.HTTP_401_UNAUTHORIZED,
        detail="Could not validate credentials",
        headers={"WWW-Authenticate": "Bearer"},
    )
    if credentials is None:
        raise unauthorized
    try:
        payload = jwt.decode(credentials.credentials, SECRET, algorithms=["HS256"], options={"require": ["exp"]})
    except jwt.InvalidTokenError:
        raise unauthorized from None
    user_id = payload.get("sub") or payload.get("userId")
    if not user_id:
        raise unauthorized
    return user_id


Session = Annotated[AsyncSession, Depends(get_session)]
CurrentUser = Annotated[str, Depends(get_current_user)]


async def get_own_task(task_id: int, session: AsyncSession, user_id: str) -> Task:
    found = await session.exec(select(Task).where(Task.id == task_id, Task.user_id == user_id))
    task = found.one_or_none()
    if task is None:
        raise HTTPException(status_code=status.HTTP_404_NOT_FOUND, detail="Task not found")
    return task


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/api/tasks", response_model=list[TaskRead])
async def list_tasks(
    session: Session,
    user_id: CurrentUser,
    limit: Annotated[int | None, Query(ge=1, le=1000)] = None,
):
    newest_first = (
        select(Task).where(Task.user_id == user_id).order_by(col(Task.created_at).desc(), col(Task.id).desc())
    )
    tasks = await session.exec(newest_first.limit(limit))
    return tasks.all()


@app.post("/api/tasks", response_model=TaskRead, status_code=status.HTTP_201_CREATED)
async def create_task(data: TaskCreate, session: Session, user_id: CurrentUser, response: Response):
    task = Task.model_validate(data, update={"user_id": user_id})
    session.add(task)
    await session.commit()
    await session.refresh(task)
    response.headers["Location"] = f"/api/tasks/{task.id}"
    return task


@app.get("/api/tasks/{task_id}", response_model=TaskRead)
async def get_task(task_id: int, session: Session, user_id: CurrentUser):
    return await get_own_task(task_id, session, user_id)


@app.patch("/api/tasks/{task_id}/complete", response_model=TaskRead)
async def complete_task(task_id: int, data: TaskComplete, session: Session, user_id: CurrentUser):
    task = await get_own_task(task_id, session, user_id)
    task.completed = data.completed
    task.updated_at = now()
    session.add(task)
    await session.commit()
    await session.refresh(task)
    return task
